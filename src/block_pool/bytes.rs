//! Bytes in blocks of the process's pool.

use super::pool::{Chain, lock};
use super::slab::{BLOCK_DATA, size_of_blocks};

/// Bytes in blocks of the pool, which are free again when this is dropped.
#[derive(Debug, Default)]
pub struct PooledBytes(Chain);

impl PooledBytes {
    /// Copies these parts, one after the other.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut bytes = Self::default();
        if parts.iter().any(|part| !part.is_empty()) {
            let mut pool = lock();
            for part in parts {
                pool.append(&mut bytes.0, part);
            }
        }
        bytes
    }

    /// Copies a part behind what is there.
    pub fn append(&mut self, part: &[u8]) {
        if !part.is_empty() {
            lock().append(&mut self.0, part);
        }
    }

    /// Drops the blocks that hold nothing but the first `count` bytes; returns
    /// how many of these bytes are left.
    pub fn drop_front(&mut self, count: usize) -> usize {
        let blocks = count.min(self.len()) / BLOCK_DATA;
        if blocks > 0 {
            lock().drop_front(&mut self.0, blocks);
        }
        count - blocks * BLOCK_DATA
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What its blocks take, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of_blocks(self.len())
    }

    /// Appends the bytes from `start` up to `end` to `out`.
    pub fn copy_to(&self, start: usize, end: usize, out: &mut Vec<u8>) {
        debug_assert!(end <= self.len(), "{end} of {}", self.len());
        if start < end {
            // Before the lock is taken, as it allocates.
            out.reserve(end - start);
            lock().copy(&self.0, start, end, out);
        }
    }

    /// A copy of the bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.copy_to(0, self.len(), &mut bytes);
        bytes
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        if self.0.first != 0 {
            lock().free_all(self.0.first);
        }
    }
}

impl PartialEq for PooledBytes {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && lock().is_equal(&self.0, &other.0)
    }
}

impl Eq for PooledBytes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_any_place_whatever_their_parts() {
        let bytes: Vec<u8> = (0..2_000).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (data, lengths) = (BLOCK_DATA, [0, 1, 1_000, 2_000]);
        for length in lengths
            .into_iter()
            .chain([data - 1, data, data + 1, 2 * data])
        {
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
            assert!(front < BLOCK_DATA && pooled.to_vec() == expected);
        }
        let rest = pooled.len() % BLOCK_DATA;
        assert_eq!(pooled.drop_front(pooled.len()), rest);
        pooled.append(b"more");
        assert!(pooled.to_vec().ends_with(b"more"));
    }

    #[test]
    fn bytes_are_equal_if_each_is_wherever_their_blocks_are() {
        for length in [0, 1, BLOCK_DATA, BLOCK_DATA + 1, 1_000] {
            let bytes = vec![b'x'; length];
            let one = PooledBytes::new(&[&bytes]);
            // What filled the blocks before is no part of them.
            drop(PooledBytes::new(&[&[b'y'; 2_000]]));
            let other = PooledBytes::new(&[&bytes[..length / 2], &bytes[length / 2..]]);
            assert_eq!(one, other);
            for place in 0..length {
                let mut changed = bytes.clone();
                changed[place] = b'z';
                assert_ne!(one, PooledBytes::new(&[&changed]), "{place} of {length}");
            }
            assert_ne!(one, PooledBytes::new(&[&bytes, b"x"]));
        }
    }
}
