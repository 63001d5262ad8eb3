//! Macros for the wrappers of a client's types.

/// Implements the parts that wrappers of a client's types have in common: `[generics] Ours => Theirs, field:`, then the parts.
///
/// - `get_ref`, `into_inner`: the methods of these names, after their documentation
/// - `into`: `From<Ours> for Theirs`, by `into_inner`
/// - `deref`, `deref_mut`, `as_ref`, `debug`: the traits of these names, by the field
#[doc(hidden)]
#[macro_export]
macro_rules! __wrapper {
    ($generics:tt $ours:ty => $theirs:ty, $field:tt: $($(#[$docs:meta])* $part:ident)+) => {
        $($crate::__wrapper! { @$part $generics $ours, $theirs, $field, $(#[$docs])* })+
    };
    (@get_ref [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt, $($docs:tt)*) => {
        impl<$($generics)*> $ours {
            $($docs)*
            #[must_use]
            pub fn get_ref(&self) -> &$theirs {
                &self.$field
            }
        }
    };
    (@into_inner [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt, $($docs:tt)*) => {
        impl<$($generics)*> $ours {
            $($docs)*
            #[must_use]
            pub fn into_inner(self) -> $theirs {
                self.$field
            }
        }
    };
    (@into [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt,) => {
        impl<$($generics)*> From<$ours> for $theirs {
            fn from(ours: $ours) -> Self {
                ours.into_inner()
            }
        }
    };
    (@deref [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt,) => {
        impl<$($generics)*> ::std::ops::Deref for $ours {
            type Target = $theirs;

            fn deref(&self) -> &Self::Target {
                &self.$field
            }
        }
    };
    (@deref_mut [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt,) => {
        impl<$($generics)*> ::std::ops::DerefMut for $ours {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.$field
            }
        }
    };
    (@as_ref [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt,) => {
        impl<$($generics)*> AsRef<$theirs> for $ours {
            fn as_ref(&self) -> &$theirs {
                &self.$field
            }
        }
    };
    (@debug [$($generics:tt)*] $ours:ty, $theirs:ty, $field:tt,) => {
        impl<$($generics)*> ::std::fmt::Debug for $ours {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Debug::fmt(&self.$field, f)
            }
        }
    };
}

/// Implements `Debug` for a type most of whose fields are not shown: its name, and one value or none.
#[doc(hidden)]
#[macro_export]
macro_rules! __opaque_debug {
    ([$($generics:tt)*] $type:ty, $name:expr $(, |$this:ident| $field:ident: $value:expr)?) => {
        impl<$($generics)*> ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let mut shown = f.debug_struct($name);
                $(
                    let $this = self;
                    shown.field(stringify!($field), &$value);
                )?
                shown.finish_non_exhaustive()
            }
        }
    };
}
