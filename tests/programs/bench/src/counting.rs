//! A global allocator that counts.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::{AddAssign, Sub},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::subject::Threads;

/// The system's allocator, with every allocation counted: for its thread, and for the process. What C code allocates
/// by itself is not seen.
pub struct Counting;

/// Allocations so far, and the bytes they asked for. Growing a block is one more allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How many.
    pub count: u64,
    /// How much.
    pub bytes: u64,
}

impl Sub for Allocations {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { count: self.count - other.count, bytes: self.bytes - other.bytes }
    }
}

impl AddAssign for Allocations {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

thread_local! {
    // Without a destructor and without an allocation of their own, as an allocator needs them.
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

static ALL_COUNT: AtomicU64 = AtomicU64::new(0);
static ALL_BYTES: AtomicU64 = AtomicU64::new(0);

/// What this thread, or this process, has allocated so far. Zero where [`Counting`] is not the global allocator.
pub fn reading(threads: Threads) -> Allocations {
    match threads {
        Threads::Caller => Allocations { count: COUNT.get(), bytes: BYTES.get() },
        Threads::All => Allocations { count: ALL_COUNT.load(Relaxed), bytes: ALL_BYTES.load(Relaxed) },
    }
}

fn count(size: usize) {
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + size as u64);
    ALL_COUNT.fetch_add(1, Relaxed);
    ALL_BYTES.fetch_add(size as u64, Relaxed);
}

// SAFETY: every call is the system allocator's, with the arguments it was given; counting neither allocates nor unwinds.
#[allow(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(block, layout) }
    }
}
