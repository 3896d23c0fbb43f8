//! The version of the programs.

/// The version of all programs, with the commit and the target that they were built from.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("SIAR_BUILD_COMMIT"),
    ", ",
    env!("SIAR_BUILD_TARGET"),
    ")"
);
