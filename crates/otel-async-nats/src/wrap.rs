//! A macro for the setters of builders.

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

pub(crate) use setters;
