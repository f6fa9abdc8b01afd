//! The slabs of the process, and chains of blocks in them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::slab::{
    BLOCK, BLOCK_DATA, BLOCKS_PER_SLAB, LINK, Link, MAX_SLABS, SLAB, Slab, link_to, locate, next,
    set_next,
};

/// The mapped slabs of the pool, in bytes.
#[must_use]
pub fn mapped() -> usize {
    lock().slabs.iter().flatten().count() * SLAB
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

pub(super) fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes in blocks that are linked to one another.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) first: Link,
    last: Link,
    pub(super) length: usize,
}

#[derive(Debug)]
pub(super) struct Pool {
    slabs: Vec<Option<Slab>>,
    /// Slabs with a free block. Blocks are taken from the first, so that the
    /// last become empty.
    open: BTreeSet<usize>,
    /// The one empty slab that stays mapped, so that blocks that come and go
    /// at the end of a slab do not map one each time.
    spare: Option<usize>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            slabs: Vec::new(),
            open: BTreeSet::new(),
            spare: None,
        }
    }

    /// Copies a part behind what is there, into blocks as they are needed.
    pub(super) fn append(&mut self, chain: &mut Chain, mut part: &[u8]) {
        while !part.is_empty() {
            let filled = chain.length % BLOCK_DATA;
            if filled == 0 {
                let block = self.take();
                set_next(self.block_mut(block), 0);
                match chain.last {
                    0 => chain.first = block,
                    last => set_next(self.block_mut(last), block),
                }
                chain.last = block;
            }
            let (now, later) = part.split_at(part.len().min(BLOCK_DATA - filled));
            let start = LINK + filled;
            self.block_mut(chain.last)[start..start + now.len()].copy_from_slice(now);
            chain.length += now.len();
            part = later;
        }
    }

    /// Frees so many blocks at the front, all of which are full.
    pub(super) fn drop_front(&mut self, chain: &mut Chain, blocks: usize) {
        for _ in 0..blocks {
            chain.first = self.free(chain.first);
        }
        chain.length -= blocks * BLOCK_DATA;
        if chain.first == 0 {
            chain.last = 0;
        }
    }

    /// Appends the bytes from `start` up to `end` to `out`.
    pub(super) fn copy(&self, chain: &Chain, start: usize, end: usize, out: &mut Vec<u8>) {
        let mut link = chain.first;
        for _ in 0..start / BLOCK_DATA {
            link = next(self.block(link));
        }
        let (mut from, mut rest) = (LINK + start % BLOCK_DATA, end - start);
        while rest > 0 {
            let block = self.block(link);
            let part = &block[from..BLOCK.min(from + rest)];
            out.extend_from_slice(part);
            rest -= part.len();
            (from, link) = (LINK, next(block));
        }
    }

    /// Whether two chains of one length hold the same bytes.
    pub(super) fn is_equal(&self, one: &Chain, other: &Chain) -> bool {
        let (mut left, mut right, mut rest) = (one.first, other.first, one.length);
        while rest > 0 {
            let (a, b) = (self.block(left), self.block(right));
            let part = LINK..LINK + rest.min(BLOCK_DATA);
            rest -= part.len();
            if a[part.clone()] != b[part] {
                return false;
            }
            (left, right) = (next(a), next(b));
        }
        true
    }

    fn take(&mut self) -> Link {
        let open = self.open.first().copied();
        let number = open.unwrap_or_else(|| self.add_slab());
        if self.spare == Some(number) {
            self.spare = None;
        }
        let slab = self.slab_mut(number);
        let slot = slab.take();
        if slab.used() == BLOCKS_PER_SLAB {
            self.open.remove(&number);
        }
        link_to(number, slot)
    }

    /// Frees a block; returns the one that follows it.
    fn free(&mut self, link: Link) -> Link {
        let (number, slot) = locate(link);
        let slab = self.slab_mut(number);
        let next = next(slab.block(slot));
        slab.free(slot);
        let is_empty = slab.used() == 0;
        self.open.insert(number);
        if is_empty {
            if self.spare.is_none() {
                self.spare = Some(number);
            } else {
                self.open.remove(&number);
                self.slabs[number] = None;
            }
        }
        next
    }

    /// Frees a block and those that follow it.
    pub(super) fn free_all(&mut self, first: Link) {
        let mut link = first;
        while link != 0 {
            link = self.free(link);
        }
    }

    fn add_slab(&mut self) -> usize {
        let gap = self.slabs.iter().position(Option::is_none);
        let number = gap.unwrap_or(self.slabs.len());
        assert!(number < MAX_SLABS, "the block pool is full");
        if number == self.slabs.len() {
            self.slabs.push(None);
        }
        self.slabs[number] = Some(Slab::map());
        self.open.insert(number);
        number
    }

    #[expect(clippy::expect_used, reason = "links lead to mapped slabs only")]
    fn slab_mut(&mut self, number: usize) -> &mut Slab {
        self.slabs[number].as_mut().expect("a mapped slab")
    }

    #[expect(clippy::expect_used, reason = "links lead to mapped slabs only")]
    fn block(&self, link: Link) -> &[u8] {
        let (number, slot) = locate(link);
        let slab = self.slabs[number].as_ref();
        slab.expect("a mapped slab").block(slot)
    }

    fn block_mut(&mut self, link: Link) -> &mut [u8] {
        let (number, slot) = locate(link);
        self.slab_mut(number).block_mut(slot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::slab::size_of_blocks;
    use super::*;

    #[test]
    fn slabs_that_are_empty_go_back_but_for_one() {
        let mut pool = Pool::new();
        let block = [b'x'; BLOCK_DATA];
        let links: Vec<Link> = (0..3 * BLOCKS_PER_SLAB)
            .map(|_| pool.write(&block))
            .collect();
        assert_eq!(pool.slabs.iter().flatten().count(), 3);
        assert!(pool.open.is_empty());
        for (index, link) in links.into_iter().enumerate() {
            pool.free(link);
            if (index + 1) % BLOCKS_PER_SLAB == 0 {
                let mapped = pool.slabs.iter().flatten().count();
                assert_eq!(mapped, [3, 2, 1][index / BLOCKS_PER_SLAB]);
            }
        }
        pool.write(&block);
        assert_eq!(pool.slabs.iter().flatten().count(), 1);
    }

    #[test]
    fn blocks_that_come_and_go_at_the_end_of_a_slab_map_none() {
        let mut pool = Pool::new();
        for _ in 1..BLOCKS_PER_SLAB {
            pool.take();
        }
        for _ in 0..3 {
            let links = [pool.take(), pool.take()];
            assert_eq!(links.map(|link| locate(link).0), [0, 1]);
            for link in links {
                pool.free(link);
            }
            assert_eq!(pool.slabs.iter().flatten().count(), 2);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// However lengths come and go: bytes stay what they are, and there
        /// are no more slabs than the most blocks in use ever needed.
        #[test]
        fn the_pool_is_as_large_as_the_most_blocks_in_use(
            steps in proptest::collection::vec((0..200_usize, 0..20_000_usize), 1..400),
        ) {
            let mut pool = Pool::new();
            let mut held: Vec<Option<(Link, Vec<u8>)>> = vec![None; 200];
            let (mut used, mut peak) = (0, 0);
            for (step, (index, length)) in steps.into_iter().enumerate() {
                if let Some((link, bytes)) = held[index].take() {
                    prop_assert_eq!(read(&pool, link, bytes.len()), &bytes[..]);
                    pool.free_all(link);
                    used -= size_of_blocks(bytes.len()) / BLOCK;
                }
                let bytes = vec![u8::try_from(step % 256).unwrap(); length];
                if length > 0 {
                    used += size_of_blocks(length) / BLOCK;
                    held[index] = Some((pool.write(&bytes), bytes));
                }
                peak = peak.max(used);
                let mapped = pool.slabs.iter().flatten().count();
                prop_assert!(mapped <= peak.div_ceil(BLOCKS_PER_SLAB).max(1));
                let slabs = pool.slabs.iter().flatten();
                let empty = slabs.filter(|slab| slab.used() == 0).count();
                prop_assert_eq!(empty, pool.spare.iter().count());
                let counted: usize = pool.slabs.iter().flatten().map(Slab::used).sum();
                prop_assert_eq!(counted, used);
            }
        }
    }

    impl Pool {
        /// Blocks with these bytes, which are freed by hand.
        fn write(&mut self, bytes: &[u8]) -> Link {
            let mut chain = Chain::default();
            for part in bytes.chunks(500) {
                self.append(&mut chain, part);
            }
            chain.first
        }
    }

    fn read(pool: &Pool, first: Link, length: usize) -> Vec<u8> {
        let (mut bytes, mut link) = (Vec::new(), first);
        while link != 0 {
            let block = pool.block(link);
            bytes.extend_from_slice(&block[LINK..]);
            link = next(block);
        }
        bytes.truncate(length);
        bytes
    }
}
