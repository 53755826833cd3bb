//! How errors read.

/// Makes types errors that read the same everywhere: `Debug`, which is what a `main` that returns an error prints, reads as `Display`; and
/// `Display` says the causes too, so that `source` is `None` and a printer of chains says no sentence twice. The causes are in the types'
/// fields.
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
