//! Memory for bytes that peers leave here: payloads, unfinished requests,
//! responses that are not taken yet.
//!
//! All of it is in blocks of one size, so any free block serves any need, and
//! the pool never has more pages than the most blocks that were in use at one
//! time need. A general allocator cannot promise that: what small payloads
//! leave free between them does not fit larger ones. Pages are mappings of
//! their own, which the system gets back when they are empty.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// Size of a block, in bytes. Half a block is lost at the end of a payload on
/// average, and a link in every block; for payloads of some hundred bytes to
/// 4 KiB this size loses least.
pub const BLOCK: usize = 192;

/// Size of the link to the next block, in bytes.
const LINK: usize = 4;

/// Bytes that a block holds.
const DATA: usize = BLOCK - LINK;

/// Blocks of a page: a mapping costs microseconds, so there should be few.
const PER_PAGE: usize = 1024;

/// Size of a page, in bytes.
pub const PAGE: usize = PER_PAGE * BLOCK;

/// Pages that links can name: 800 GiB.
const MAX_PAGES: usize = u32::MAX as usize / PER_PAGE;

/// What so many bytes take in the pool, in bytes.
#[must_use]
pub const fn size_of_blocks(length: usize) -> usize {
    length.div_ceil(DATA) * BLOCK
}

/// The mapped pages of the pool, in bytes.
#[must_use]
pub fn mapped() -> usize {
    lock().pages.iter().flatten().count() * PAGE
}

/// Bytes in blocks of the pool, which are free again when this is dropped.
#[derive(Debug, Default)]
pub struct PooledBytes {
    first: Link,
    last: Link,
    length: usize,
}

/// A block's place in all pages plus one; 0 is none.
type Link = u32;

impl PooledBytes {
    /// Copies these parts, one after the other.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut bytes = Self::default();
        if parts.iter().any(|part| !part.is_empty()) {
            let mut pool = lock();
            for part in parts {
                pool.append(&mut bytes, part);
            }
        }
        bytes
    }

    /// Copies a part behind what is there.
    pub fn append(&mut self, part: &[u8]) {
        if !part.is_empty() {
            lock().append(self, part);
        }
    }

    /// Drops the blocks that hold nothing but the first `count` bytes; returns
    /// how many of these bytes are left.
    pub fn drop_front(&mut self, count: usize) -> usize {
        let blocks = count.min(self.length) / DATA;
        if blocks > 0 {
            let mut pool = lock();
            for _ in 0..blocks {
                self.first = pool.free(self.first);
            }
            self.length -= blocks * DATA;
        }
        if self.first == 0 {
            self.last = 0;
        }
        count - blocks * DATA
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What its blocks take, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_blocks(self.length)
    }

    /// Appends the bytes from `start` up to `end` to `out`.
    pub fn copy_to(&self, start: usize, end: usize, out: &mut Vec<u8>) {
        if start >= end {
            return;
        }
        let old = out.len();
        out.resize(old + end - start, 0);
        let mut rest = &mut out[old..];
        let pool = lock();
        let mut link = self.first;
        for _ in 0..start / DATA {
            link = next(pool.block(link));
        }
        let mut from = LINK + start % DATA;
        while !rest.is_empty() {
            let block = pool.block(link);
            let (part, later) = rest.split_at_mut(rest.len().min(BLOCK - from));
            part.copy_from_slice(&block[from..from + part.len()]);
            (rest, from, link) = (later, LINK, next(block));
        }
    }

    /// A copy of the bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.copy_to(0, self.length, &mut bytes);
        bytes
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        if self.first != 0 {
            lock().free_all(self.first);
        }
    }
}

impl PartialEq for PooledBytes {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.to_vec() == other.to_vec()
    }
}

impl Eq for PooledBytes {}

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Pool {
    pages: Vec<Option<Page>>,
    /// Pages with a free block. Blocks are taken from the first, so that the
    /// last become empty.
    open: BTreeSet<usize>,
}

impl Pool {
    const fn new() -> Self {
        Self {
            pages: Vec::new(),
            open: BTreeSet::new(),
        }
    }

    /// Copies a part behind what is there, into blocks as they are needed.
    fn append(&mut self, bytes: &mut PooledBytes, mut part: &[u8]) {
        while !part.is_empty() {
            let filled = bytes.length % DATA;
            if filled == 0 {
                let block = self.take();
                set_next(self.block_mut(block), 0);
                match bytes.last {
                    0 => bytes.first = block,
                    last => set_next(self.block_mut(last), block),
                }
                bytes.last = block;
            }
            let (now, later) = part.split_at(part.len().min(DATA - filled));
            let start = LINK + filled;
            self.block_mut(bytes.last)[start..start + now.len()].copy_from_slice(now);
            bytes.length += now.len();
            part = later;
        }
    }

    fn take(&mut self) -> Link {
        let open = self.open.first().copied();
        let number = open.unwrap_or_else(|| self.add_page());
        let page = self.page_mut(number);
        let slot = page.take();
        if page.used == PER_PAGE {
            self.open.remove(&number);
        }
        link_to(number, slot)
    }

    /// Frees a block; returns the one that follows it.
    fn free(&mut self, link: Link) -> Link {
        let (number, slot) = place(link);
        let page = self.page_mut(number);
        let next = next(page.block(slot));
        page.free(slot);
        let is_empty = page.used == 0;
        self.open.insert(number);
        // One page with free blocks stays, so that a few blocks that come and
        // go map no page each time.
        if is_empty && self.open.len() > 1 {
            self.open.remove(&number);
            self.pages[number] = None;
        }
        next
    }

    /// Frees a block and those that follow it.
    fn free_all(&mut self, first: Link) {
        let mut link = first;
        while link != 0 {
            link = self.free(link);
        }
    }

    fn add_page(&mut self) -> usize {
        let gap = self.pages.iter().position(Option::is_none);
        let number = gap.unwrap_or(self.pages.len());
        assert!(number < MAX_PAGES, "the block pool is full");
        if number == self.pages.len() {
            self.pages.push(None);
        }
        self.pages[number] = Some(Page::map());
        self.open.insert(number);
        number
    }

    #[expect(clippy::expect_used, reason = "links lead to mapped pages only")]
    fn page_mut(&mut self, number: usize) -> &mut Page {
        self.pages[number].as_mut().expect("a mapped page")
    }

    #[expect(clippy::expect_used, reason = "links lead to mapped pages only")]
    fn block(&self, link: Link) -> &[u8] {
        let (number, slot) = place(link);
        let page = self.pages[number].as_ref();
        page.expect("a mapped page").block(slot)
    }

    fn block_mut(&mut self, link: Link) -> &mut [u8] {
        let (number, slot) = place(link);
        self.page_mut(number).block_mut(slot)
    }
}

#[derive(Debug)]
struct Page {
    blocks: MmapMut,
    /// The first free block, as if the page were the first; it links to the
    /// next.
    free: Link,
    /// Blocks that have been in use at some time. Those behind take no memory
    /// yet.
    touched: usize,
    used: usize,
}

impl Page {
    fn map() -> Self {
        // As any allocation that fails.
        let Ok(blocks) = MmapMut::map_anon(PAGE) else {
            handle_alloc_error(Layout::new::<[u8; PAGE]>());
        };
        Self {
            blocks,
            free: 0,
            touched: 0,
            used: 0,
        }
    }

    fn take(&mut self) -> usize {
        self.used += 1;
        if self.free == 0 {
            self.touched += 1;
            return self.touched - 1;
        }
        let (_, slot) = place(self.free);
        self.free = next(self.block(slot));
        slot
    }

    fn free(&mut self, slot: usize) {
        self.used -= 1;
        let next = std::mem::replace(&mut self.free, link_to(0, slot));
        set_next(self.block_mut(slot), next);
    }

    fn block(&self, slot: usize) -> &[u8] {
        &self.blocks[slot * BLOCK..][..BLOCK]
    }

    fn block_mut(&mut self, slot: usize) -> &mut [u8] {
        &mut self.blocks[slot * BLOCK..][..BLOCK]
    }
}

fn link_to(page: usize, slot: usize) -> Link {
    // No page has a larger number than links can name.
    u32::try_from(page * PER_PAGE + slot + 1).unwrap_or_default()
}

/// The page of a block and its place there.
#[inline]
fn place(link: Link) -> (usize, usize) {
    let number = link as usize - 1;
    (number / PER_PAGE, number % PER_PAGE)
}

#[inline]
fn next(block: &[u8]) -> Link {
    let link = block.first_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(link)
}

fn set_next(block: &mut [u8], link: Link) {
    block[..LINK].copy_from_slice(&link.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_come_back_from_any_place_whatever_their_parts() {
        let bytes: Vec<u8> = (0..2_000).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for length in [0, 1, DATA - 1, DATA, DATA + 1, 2 * DATA, 1_000, 2_000] {
            for cut in [0, 1, length / 2, length] {
                let cut = cut.min(length);
                let pooled = PooledBytes::new(&[&bytes[..cut], &[], &bytes[cut..length]]);
                assert_eq!(pooled.len(), length);
                assert_eq!(pooled.to_vec(), bytes[..length]);
                let mut tail = b"x".to_vec();
                pooled.copy_to(cut, length, &mut tail);
                assert_eq!(tail[1..], bytes[cut..length]);
                tail.clear();
                pooled.copy_to(cut / 2, cut, &mut tail);
                assert_eq!(tail, bytes[cut / 2..cut]);
            }
        }
    }

    #[test]
    fn bytes_come_behind_others_and_go_from_the_front() {
        let mut pooled = PooledBytes::default();
        let (mut expected, mut front) = (Vec::new(), 0);
        for round in 0..50_u8 {
            let part = vec![round; 37 * usize::from(round % 7)];
            pooled.append(&part);
            expected.extend(part);
            front = pooled.drop_front(front + expected.len().min(round.into()));
            let gone = expected.len() - pooled.len();
            expected.drain(..gone);
            assert!(front < DATA && pooled.to_vec() == expected);
        }
        let rest = pooled.len() % DATA;
        assert_eq!(pooled.drop_front(pooled.len()), rest);
        pooled.append(b"more");
        assert!(pooled.to_vec().ends_with(b"more"));
    }

    #[test]
    fn pages_that_are_empty_go_back_but_for_one() {
        let mut pool = Pool::new();
        let block = [b'x'; DATA];
        let links: Vec<Link> = (0..3 * PER_PAGE).map(|_| pool.write(&block)).collect();
        assert_eq!(pool.pages.iter().flatten().count(), 3);
        assert!(pool.open.is_empty());
        for (index, link) in links.into_iter().enumerate() {
            pool.free(link);
            if (index + 1) % PER_PAGE == 0 {
                let mapped = pool.pages.iter().flatten().count();
                assert_eq!(mapped, [3, 2, 1][index / PER_PAGE]);
            }
        }
        pool.write(&block);
        assert_eq!(pool.pages.iter().flatten().count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// However lengths come and go: bytes stay what they are, and there
        /// are no more pages than the most blocks in use ever needed.
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
                let mapped = pool.pages.iter().flatten().count();
                prop_assert!(mapped <= peak.div_ceil(PER_PAGE).max(1));
                let counted: usize = pool.pages.iter().flatten().map(|page| page.used).sum();
                prop_assert_eq!(counted, used);
            }
        }
    }

    impl Pool {
        /// Blocks with these bytes, which are freed by hand.
        fn write(&mut self, bytes: &[u8]) -> Link {
            let mut pooled = PooledBytes::default();
            for part in bytes.chunks(500) {
                self.append(&mut pooled, part);
            }
            std::mem::take(&mut pooled.first)
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
