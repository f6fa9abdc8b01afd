//! Streams with a checksum of what has passed.

use std::io::{self, Read, Write};

use super::error::LoadError;
use crate::session::Content;

/// What is read, and how many bytes of it are left.
pub(super) struct Input<R> {
    bytes: Summed<R>,
    left: u64,
}

impl<R: Read> Input<R> {
    /// Reads at most `length` bytes.
    pub(super) fn new(input: R, length: u64) -> Self {
        Self {
            bytes: Summed::new(input),
            left: length,
        }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The sum of what was read.
    pub(super) fn sum(&self) -> u64 {
        self.bytes.sum
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        let rest = self.left.checked_sub(buffer.len() as u64);
        self.left = rest.ok_or(LoadError::Damaged)?;
        Ok(self.bytes.read_exact(buffer)?)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    pub(super) fn number(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// At most as many bytes as a payload has.
    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, LoadError> {
        if length > Content::MAX_PAYLOAD {
            return Err(LoadError::Damaged);
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// A stream and the FNV-1a of 64 bits of what has passed. Its steps can be
/// undone, so that no change of a single byte goes unnoticed; it is no help
/// against forgers, who cannot write the file.
pub(super) struct Summed<T> {
    pub(super) stream: T,
    pub(super) sum: u64,
}

impl<T> Summed<T> {
    pub(super) fn new(stream: T) -> Self {
        Self {
            stream,
            sum: 0xcbf2_9ce4_8422_2325,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = (self.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(bytes)?;
        self.add(&bytes[..count]);
        Ok(count)
    }
}
