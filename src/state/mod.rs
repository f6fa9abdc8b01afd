//! Sessions that outlive a restart: written to a file at the end, read back
//! and removed at the next start. Ends are points on the machine's monotonic
//! clock, so that lifetimes go on through the gap; after a reboot the file
//! says nothing.

mod error;
mod file;
mod fit;
mod format;
mod stream;

#[cfg(test)]
mod tests;

pub use error::LoadError;
pub use file::{load, save};
pub use fit::SaveOutcome;
