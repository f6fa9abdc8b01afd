//! The bytes of a state file. Numbers are little-endian.
//!
//! | part | bytes |
//! |---|---|
//! | [`MAGIC`], [`VERSION`] | 8, 4 |
//! | boot id | 36 |
//! | when it was written | 8 |
//! | keys of the transactions' names | 2 × 8 |
//! | sessions, the most recently used first | |
//! | number of sessions | 8 |
//! | [FNV-1a](Summed) of all before | 8 |
//!
//! and a session is
//!
//! | part | bytes |
//! |---|---|
//! | id | 16 |
//! | number of the protocol's proposal | 2 |
//! | revision, end, time from the last write to the end | 3 × 8 |
//! | tick of the last use | 2 |
//! | whether the first payload was fetched, writes | 1, 1 |
//! | lengths of payload, media type and transactions | 4, 1, 1 |
//! | payload and media type | |
//! | transactions: name and revision made, 0 for a conflict | 2 × 8 each |
//!
//! Version 1, which is still read, has the number of all reads, in 2 bytes, for
//! whether the first payload was fetched.

use std::io::{self, Read, Write};
use std::num::{NonZeroU64, NonZeroUsize};

use super::LoadError;
use crate::clock::Timestamp;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, Parts, Revision, SessionId};
use crate::store::{Record, Snapshot, Store, TxnHasher};

const MAGIC: [u8; 8] = *b"rdvstate";

/// Changes with every change of the format.
pub(super) const VERSION: u32 = 2;

/// The oldest version that can be read.
pub(super) const OLDEST_VERSION: u32 = 1;

/// The text of a boot id, a UUID.
pub(super) type Boot = [u8; 36];

/// All that stands before the sessions.
const HEADER: u64 = 8 + 4 + 36 + 8 + 2 * 8;

/// The number of sessions and the sum.
const TRAILER: u64 = 8 + 8;

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) sessions: NonZeroUsize,
    /// In bytes.
    pub(super) payload: usize,
}

/// How many sessions were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) sessions: usize,
    /// Those that did not fit.
    pub(super) left_out: usize,
}

/// Writes what lives at `now`, without the sessions that would not fit into
/// `room` bytes after the more recently used ones that do.
pub(super) fn write(
    out: impl Write,
    room: u64,
    store: &Store,
    boot: &Boot,
    now: Timestamp,
) -> io::Result<Written> {
    let mut out = Summed::new(out);
    write_header(&mut out, store.txn_hasher(), boot, now)?;
    let mut left = room.saturating_sub(HEADER + TRAILER);
    let mut written = Written::default();
    let mut bytes = Vec::new();
    store.for_each_live(now, |saved| {
        bytes.clear();
        write_session(&mut bytes, saved)?;
        let Some(rest) = left.checked_sub(bytes.len() as u64) else {
            written.left_out += 1;
            return Ok(());
        };
        left = rest;
        written.sessions += 1;
        out.write_all(&bytes)
    })?;
    write_trailer(&mut out, written.sessions as u64)?;
    Ok(written)
}

pub(super) fn write_header(
    out: &mut impl Write,
    keys: TxnHasher,
    boot: &Boot,
    now: Timestamp,
) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(boot)?;
    for number in [now.monotonic_ms, keys.0[0], keys.0[1]] {
        out.write_all(&number.to_le_bytes())?;
    }
    Ok(())
}

pub(super) fn write_trailer(out: &mut Summed<impl Write>, count: u64) -> io::Result<()> {
    out.write_all(&count.to_le_bytes())?;
    let sum = out.sum;
    out.write_all(&sum.to_le_bytes())
}

pub(super) fn write_session(out: &mut impl Write, saved: &Snapshot) -> io::Result<()> {
    let session = &saved.session;
    let payload = session.content.payload();
    let media_type = session.content.media_type();
    let too_long = |_| io::Error::other("a session is too large");
    out.write_all(&saved.id.bits())?;
    out.write_all(&session.protocol.number().to_le_bytes())?;
    for number in [session.revision.number(), session.expires, session.left] {
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(&session.used.to_le_bytes())?;
    out.write_all(&[session.fetched.into(), session.writes])?;
    let length = u32::try_from(payload.len()).map_err(too_long)?;
    out.write_all(&length.to_le_bytes())?;
    for length in [media_type.len(), saved.transactions.len()] {
        out.write_all(&[u8::try_from(length).map_err(too_long)?])?;
    }
    out.write_all(&payload)?;
    out.write_all(media_type.as_bytes())?;
    for record in &saved.transactions {
        let made = record.made.map_or(0, NonZeroU64::get);
        out.write_all(&record.name.to_le_bytes())?;
        out.write_all(&made.to_le_bytes())?;
    }
    Ok(())
}

/// Makes a store of a file of `length` bytes; what is over the limits or has
/// ended at `now` is left out. No more is held meanwhile than what is kept
/// and one session.
pub(super) fn read(
    input: impl Read,
    length: u64,
    boot: &Boot,
    limits: Limits,
    now: Timestamp,
) -> Result<Store, LoadError> {
    let mut input = Input {
        bytes: Summed::new(input),
        left: length,
    };
    if input.array()? != MAGIC {
        return Err(LoadError::Foreign);
    }
    let version = u32::from_le_bytes(input.array()?);
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(LoadError::Version(version));
    }
    let boot_then = input.array()?;
    let written = input.number()?;
    if boot_then != *boot || written > now.monotonic_ms {
        return Err(LoadError::OtherBoot);
    }
    let keys = TxnHasher([input.number()?, input.number()?]);
    let mut store = Store::with_hasher(limits.sessions, keys);
    let (mut count, mut kept) = (0, 0);
    while input.left > TRAILER {
        let saved = read_session(&mut input, version, written)?;
        count += 1;
        if kept < limits.sessions.get()
            && saved.session.content.len() <= limits.payload
            && saved.session.expires > now.monotonic_ms
        {
            store.restore(saved).map_err(|_| LoadError::Damaged)?;
            kept += 1;
        }
    }
    let counted = input.number()? == count;
    let sum = input.bytes.sum;
    let summed = input.number()? == sum;
    if counted && summed {
        Ok(store)
    } else {
        Err(LoadError::Damaged)
    }
}

/// A session that was last written to before `written`.
fn read_session(
    input: &mut Input<impl Read>,
    version: u32,
    written: u64,
) -> Result<Snapshot, LoadError> {
    let id = SessionId::new(input.array()?);
    let number = u16::from_le_bytes(input.array()?);
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
        .ok_or(LoadError::Damaged)?;
    let revision = Revision::new(input.number()?);
    let (expires, left) = (input.number()?, input.number()?);
    if expires
        .checked_sub(left)
        .is_none_or(|modified| modified > written)
    {
        return Err(LoadError::Damaged);
    }
    let used = u16::from_le_bytes(input.array()?);
    let fetched = read_fetched(input, version)?;
    let [writes] = input.array()?;
    let payload = u32::from_le_bytes(input.array()?);
    let [type_length, transactions] = input.array()?;
    let content = read_content(input, protocol, payload, type_length)?;
    let transactions = (0..transactions)
        .map(|_| {
            Ok(Record {
                name: input.number()?,
                made: NonZeroU64::new(input.number()?),
            })
        })
        .collect::<Result<Vec<_>, LoadError>>()?;
    let session = Parts {
        content,
        revision,
        protocol,
        expires,
        left,
        used,
        fetched,
        writes,
    };
    Ok(Snapshot {
        id,
        session,
        transactions,
    })
}

fn read_fetched(input: &mut Input<impl Read>, version: u32) -> Result<bool, LoadError> {
    if version == 1 {
        // Most reads are polls of the device that created the session.
        let _all_reads: [u8; 2] = input.array()?;
        return Ok(false);
    }
    match input.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(LoadError::Damaged),
    }
}

/// What an answer will hold must be what a request could have brought.
fn read_content(
    input: &mut Input<impl Read>,
    protocol: Protocol,
    payload: u32,
    type_length: u8,
) -> Result<Content, LoadError> {
    let payload = input.bytes(payload as usize)?;
    let media_type = input.bytes(type_length.into())?;
    let text = str::from_utf8(&payload).is_ok();
    let printable = media_type.iter().all(|b| matches!(b, b' '..=b'~'));
    str::from_utf8(&media_type)
        .ok()
        .filter(|_| printable && (text || protocol.concurrency() == Concurrency::ETag))
        .and_then(|media_type| Content::new(&payload, media_type))
        .ok_or(LoadError::Damaged)
}

/// What is read, and how many bytes of it are left.
struct Input<R> {
    bytes: Summed<R>,
    left: u64,
}

impl<R: Read> Input<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), LoadError> {
        let rest = self.left.checked_sub(buffer.len() as u64);
        self.left = rest.ok_or(LoadError::Damaged)?;
        Ok(self.bytes.read_exact(buffer)?)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    fn number(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// At most as many bytes as a payload has.
    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, LoadError> {
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
    sum: u64,
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
