//! Macros for the methods of wrappers.

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

/// Methods that call those of the client's type, which has this path, and wrap the result by a method of ours.
#[cfg(feature = "jetstream")]
macro_rules! wrapping {
    ($theirs:literal; $($(#[$attribute:meta])* $wrap:ident:
        $name:ident[$($generics:tt)*]($($argument:ident: $type:ty),*) -> $ours:ty, $error:ty;)*
    ) => {
        $(
            #[doc = concat!("See [`async_nats::jetstream::", $theirs, "::", stringify!($name), "`].")]
            ///
            /// # Errors
            ///
            /// The client's.
            $(#[$attribute])*
            pub async fn $name<$($generics)*>(&self, $($argument: $type),*) -> Result<$ours, $error> {
                Ok(self.$wrap(self.inner.$name($($argument),*).await?))
            }
        )*
    };
}

pub(crate) use setters;
#[cfg(feature = "jetstream")]
pub(crate) use wrapping;
