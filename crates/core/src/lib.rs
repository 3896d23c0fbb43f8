//! What Siar's four clients and its server share.
pub mod protocol;
pub mod wire;
