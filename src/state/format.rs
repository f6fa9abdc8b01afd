//! The bytes of a state file. Numbers are little-endian.
//!
//! | part | bytes |
//! |---|---|
//! | [`MAGIC`], [`VERSION`] | 8, 4 |
//! | boot id | 36 |
//! | name of the node, zeros after it, or zeros alone | 8 |
//! | when it was written | 8 |
//! | keys of the hash of transactions' names | 2 × 8 |
//! | sessions, the most recently used first | |
//! | number of sessions | 8 |
//! | [FNV-1a](Summed) of all before | 8 |
//!
//! and a session is
//!
//! | part | bytes |
//! |---|---|
//! | id | 16 |
//! | owner | 3 × 8 |
//! | number of the protocol's proposal | 2 |
//! | revision, times of the last write, the end and the last use | 4 × 8 |
//! | whether the first payload was fetched, writes | 1, 1 |
//! | lengths of payload, media type and transactions | 4, 1, 1 |
//! | payload and media type | |
//! | transactions: name and revision made, 0 for a conflict | 2 × 8 each |
//!
//! Times are milliseconds on the monotonic clock. Version 3, which is still
//! read, has no name of a node.

use std::io::{self, Read, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::str;

use super::error::{LoadError, OLDEST_VERSION, VERSION};
use super::stream::{Input, Summed};
use crate::clock::Timestamp;
use crate::protocol::{Concurrency, Protocol};
use crate::session::{Content, NodeName, Revision, Session, SessionId};
use crate::store::{Owner, Record, Snapshot, Store, TxnHasher};

const MAGIC: [u8; 8] = *b"rdvstate";

/// Whose sessions a file has: none but these may be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The text of a boot id, a UUID.
    pub(super) boot: [u8; 36],
    /// The name in the sessions' ids.
    pub(super) node: Option<NodeName>,
}

/// All that stands before the sessions.
const HEADER: u64 = 8 + 4 + 36 + 8 + 8 + 2 * 8;

/// The number of sessions and the sum.
const TRAILER: u64 = 8 + 8;

/// What a store can hold.
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
/// `byte_limit` bytes after the more recently used ones that do.
pub(super) fn write(
    out: impl Write,
    byte_limit: u64,
    store: &Store,
    origin: &Origin,
    now: Timestamp,
) -> io::Result<Written> {
    let mut out = Summed::new(out);
    write_header(&mut out, store.txn_hasher(), origin, now)?;
    let mut left = byte_limit.saturating_sub(HEADER + TRAILER);
    let mut written = Written::default();
    let mut bytes = Vec::new();
    store.for_each_live(now, |snapshot| {
        bytes.clear();
        write_session(&mut bytes, snapshot)?;
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
    origin: &Origin,
    now: Timestamp,
) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&origin.boot)?;
    out.write_all(&origin.node.map_or([0; 8], NodeName::padded))?;
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

pub(super) fn write_session(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let session = &snapshot.session;
    let payload = session.content.payload();
    let media_type = session.content.media_type();
    let too_long = |_| io::Error::other("a session is too large");
    out.write_all(&snapshot.id.bits())?;
    for key in snapshot.owner.0 {
        out.write_all(&key.to_le_bytes())?;
    }
    out.write_all(&session.protocol.number().to_le_bytes())?;
    for number in [
        session.revision.number(),
        session.modified_at,
        session.expires_at,
        session.last_used,
    ] {
        out.write_all(&number.to_le_bytes())?;
    }
    out.write_all(&[session.first_fetched.into(), session.writes])?;
    let length = u32::try_from(payload.len()).map_err(too_long)?;
    out.write_all(&length.to_le_bytes())?;
    for length in [media_type.len(), snapshot.transactions.len()] {
        out.write_all(&[u8::try_from(length).map_err(too_long)?])?;
    }
    out.write_all(&payload)?;
    out.write_all(media_type.as_bytes())?;
    for record in &snapshot.transactions {
        let made = record.made.map_or(0, NonZeroU64::get);
        out.write_all(&record.name.to_le_bytes())?;
        out.write_all(&made.to_le_bytes())?;
    }
    Ok(())
}

/// Makes a store of a file of `length` bytes; what is over the limits or has
/// ended at `now` is left out. No more is held meanwhile than what is restored
/// and one session.
pub(super) fn read(
    input: impl Read,
    length: u64,
    origin: &Origin,
    limits: Limits,
    now: Timestamp,
) -> Result<Store, LoadError> {
    let mut input = Input::new(input, length);
    if input.array()? != MAGIC {
        return Err(LoadError::Foreign);
    }
    let version = u32::from_le_bytes(input.array()?);
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(LoadError::Version(version));
    }
    let boot: [u8; 36] = input.array()?;
    let node = match version {
        3 => None,
        _ => read_node(&mut input)?,
    };
    let written = input.number()?;
    if boot != origin.boot || written > now.monotonic_ms {
        return Err(LoadError::OtherBoot);
    }
    if node != origin.node {
        return Err(LoadError::OtherNode(node));
    }
    let keys = TxnHasher([input.number()?, input.number()?]);
    let mut store = Store::with_hasher(limits.sessions, keys);
    let (mut count, mut restored) = (0, 0);
    while input.left() > TRAILER {
        let snapshot = read_session(&mut input, written)?;
        count += 1;
        if restored < limits.sessions.get()
            && snapshot.session.content.len() <= limits.payload
            && snapshot.session.expires_at > now.monotonic_ms
        {
            store.restore(snapshot).map_err(|_| LoadError::Damaged)?;
            restored += 1;
        }
    }
    let counted = input.number()? == count;
    let sum = input.sum();
    let summed = input.number()? == sum;
    if counted && summed {
        Ok(store)
    } else {
        Err(LoadError::Damaged)
    }
}

/// The name of the node that has written the file.
fn read_node(input: &mut Input<impl Read>) -> Result<Option<NodeName>, LoadError> {
    let padded = input.array()?;
    if padded == [0; NodeName::MAX_LENGTH] {
        return Ok(None);
    }
    let node = NodeName::from_padded(padded).ok_or(LoadError::Damaged)?;
    Ok(Some(node))
}

/// A session that was last written to before `written`.
fn read_session(input: &mut Input<impl Read>, written: u64) -> Result<Snapshot, LoadError> {
    let id = SessionId::new(input.array()?);
    let owner = Owner([input.number()?, input.number()?, input.number()?]);
    let number = u16::from_le_bytes(input.array()?);
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)
        .ok_or(LoadError::Damaged)?;
    let revision = Revision::new(input.number()?);
    let [modified_at, expires_at, last_used] = [input.number()?, input.number()?, input.number()?];
    let [fetched @ (0 | 1), writes] = input.array()? else {
        return Err(LoadError::Damaged);
    };
    if modified_at > written || last_used > written {
        return Err(LoadError::Damaged);
    }
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
    let session = Session {
        content,
        revision,
        protocol,
        modified_at,
        expires_at,
        last_used,
        first_fetched: fetched == 1,
        writes,
    };
    Ok(Snapshot {
        id,
        session,
        owner,
        transactions,
    })
}

/// Reads a content that a request could have brought, as a response will have
/// it.
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
