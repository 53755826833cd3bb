//! The texts of errors.

/// Makes types errors that read the same everywhere. `Debug`, which a `main` that returns an error
/// prints, reads as `Display`. `Display` includes the causes, which are fields of the types. So
/// `source` is `None`, and a printer of chains repeats no sentence.
#[doc(hidden)]
#[macro_export]
macro_rules! error_in_words {
    ($($error:ty),+ $(,)?) => {
        $(
            impl ::core::fmt::Debug for $error {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::fmt::Display::fmt(self, f)
                }
            }

            impl ::core::error::Error for $error {}
        )+
    };
}
