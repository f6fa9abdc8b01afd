//! Memory for bytes that peers leave here: payloads, unfinished requests,
//! responses that are not taken yet.
//!
//! All of it is in blocks of one size, so any free block serves any need, and
//! the pool never has more slabs than the most blocks that were in use at one
//! time need. A general allocator cannot promise that: what small payloads
//! leave free between them does not fit larger ones. Slabs are mappings of
//! their own, which the system gets back when they are empty.

mod bytes;
mod pool;
mod slab;

pub use bytes::PooledBytes;
pub use pool::mapped;
pub use slab::{BLOCK, SLAB, size_of_blocks};
