//! A slab: a mapping that is cut into blocks.

use std::alloc::{Layout, handle_alloc_error};

use memmap2::MmapMut;

/// Size of a block, in bytes. Half a block is lost at the end of a payload on
/// average, and a link in every block; for payloads of some hundred bytes to
/// 4 KiB this size loses least.
pub const BLOCK: usize = 192;

/// Size of the link to the next block, in bytes.
pub(super) const LINK: usize = 4;

/// Bytes that a block holds.
pub(super) const BLOCK_DATA: usize = BLOCK - LINK;

/// Blocks of a slab: a mapping costs microseconds, so there should be few.
pub(super) const BLOCKS_PER_SLAB: usize = 1024;

/// Size of a slab, in bytes.
pub const SLAB: usize = BLOCKS_PER_SLAB * BLOCK;

/// Slabs that links can name: 800 GiB.
pub(super) const MAX_SLABS: usize = u32::MAX as usize / BLOCKS_PER_SLAB;

/// What so many bytes take in the pool, in bytes.
#[must_use]
pub const fn size_of_blocks(length: usize) -> usize {
    length.div_ceil(BLOCK_DATA) * BLOCK
}

/// A block's number among those of all slabs plus one; 0 is none.
pub(super) type Link = u32;

#[expect(clippy::expect_used, reason = "the number of slabs is checked")]
pub(super) fn link_to(slab: usize, slot: usize) -> Link {
    u32::try_from(slab * BLOCKS_PER_SLAB + slot + 1).expect("at most MAX_SLABS slabs")
}

/// The slab of a block and its place there.
#[inline]
pub(super) fn locate(link: Link) -> (usize, usize) {
    let number = link as usize - 1;
    (number / BLOCKS_PER_SLAB, number % BLOCKS_PER_SLAB)
}

#[inline]
pub(super) fn next(block: &[u8]) -> Link {
    let link = block.first_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(link)
}

pub(super) fn set_next(block: &mut [u8], link: Link) {
    block[..LINK].copy_from_slice(&link.to_le_bytes());
}

#[derive(Debug)]
pub(super) struct Slab {
    blocks: MmapMut,
    /// The first free block, as if the slab were the first; it links to the
    /// next.
    free: Link,
    /// Blocks that have been in use at some time. Those behind take no memory
    /// yet.
    touched: usize,
    used: usize,
}

impl Slab {
    pub(super) fn map() -> Self {
        // As any allocation that fails.
        let Ok(blocks) = MmapMut::map_anon(SLAB) else {
            handle_alloc_error(Layout::new::<[u8; SLAB]>());
        };
        Self {
            blocks,
            free: 0,
            touched: 0,
            used: 0,
        }
    }

    /// Blocks in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Takes a free block; there must be one.
    pub(super) fn take(&mut self) -> usize {
        self.used += 1;
        if self.free == 0 {
            self.touched += 1;
            return self.touched - 1;
        }
        let (_, slot) = locate(self.free);
        self.free = next(self.block(slot));
        slot
    }

    pub(super) fn free(&mut self, slot: usize) {
        self.used -= 1;
        let next = std::mem::replace(&mut self.free, link_to(0, slot));
        set_next(self.block_mut(slot), next);
    }

    pub(super) fn block(&self, slot: usize) -> &[u8] {
        &self.blocks[slot * BLOCK..][..BLOCK]
    }

    pub(super) fn block_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.blocks[slot * BLOCK..][..BLOCK]
    }
}
