//! Macros for wrappers.

/// Dereferences a wrapper to the client's type.
macro_rules! deref {
    ($ours:ident $(<$parameter:ident>)? => $theirs:ty) => {
        impl$(<$parameter>)? std::ops::Deref for $ours$(<$parameter>)? {
            type Target = $theirs;

            fn deref(&self) -> &Self::Target {
                &self.inner
            }
        }

        impl$(<$parameter>)? std::ops::DerefMut for $ours$(<$parameter>)? {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.inner
            }
        }
    };
}

/// Setters that call those of the client's builder, which has this path.
macro_rules! setters {
    ($theirs:expr; $($(#[$attribute:meta])* $setter:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            $(#[$attribute])*
            #[doc = concat!("See [`async_nats::", $theirs, "::", stringify!($setter), "`].")]
            pub fn $setter(self, $($argument: $type),*) -> Self {
                Self { inner: self.inner.$setter($($argument),*), ..self }
            }
        )*
    };
}

pub(crate) use {deref, setters};
