//! Writes as many sessions as there is room for.

use std::io::{self, BufWriter, ErrorKind, Seek, Write};

use super::format::{self, Origin, Written};
use crate::clock::Timestamp;
use crate::store::Store;

/// How many of a store's sessions were saved.
#[derive(Debug)]
pub struct SaveOutcome {
    /// Sessions written.
    pub sessions: usize,
    /// Sessions left out, for want of room.
    pub left_out: usize,
    /// The error that said so, if any were left out.
    pub shortage: Option<io::Error>,
}

/// A file that may be out of room.
pub(super) trait TruncatableFile: Write + Seek {
    /// Cuts off what is behind `length` bytes.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

impl TruncatableFile for std::fs::File {
    fn set_len(&mut self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

/// Writes the sessions that live at `now`, or the most recently used of them
/// that fit.
///
/// Nothing is synced: on an SD card that can take longer than a stop may. The
/// price is that a file system that reports a shortage only then, as NFS does,
/// may lose the file; its checksum tells at the next start.
///
/// # Errors
/// What the system says, if that is no shortage or not one session fits. The
/// content is of no use then.
pub(super) fn write(
    file: &mut impl TruncatableFile,
    store: &Store,
    origin: &Origin,
    now: Timestamp,
) -> io::Result<SaveOutcome> {
    let mut byte_limit = u64::MAX;
    let mut shortage = None;
    loop {
        let error = match write_once(file, byte_limit, store, origin, now) {
            Ok(Written { sessions, left_out }) => match shortage {
                Some(error) if sessions == 0 && left_out > 0 => return Err(error),
                _ => {
                    return Ok(SaveOutcome {
                        sessions,
                        left_out,
                        shortage: shortage.filter(|_| left_out > 0),
                    });
                }
            },
            Err(error) => error,
        };
        if byte_limit == 0 || !is_shortage(&error) {
            return Err(error);
        }
        byte_limit = if shortage.is_none() {
            // What has been taken is written over: had it been given back
            // first, others could have it.
            file.stream_position()?
        } else {
            // Not so where a copy is made of what is written over, as btrfs
            // does.
            file.set_len(0)?;
            byte_limit / 2
        };
        shortage = Some(error);
    }
}

fn write_once(
    file: &mut impl TruncatableFile,
    byte_limit: u64,
    store: &Store,
    origin: &Origin,
    now: Timestamp,
) -> io::Result<Written> {
    file.rewind()?;
    let mut out = BufWriter::new(&mut *file);
    let written = format::write(&mut out, byte_limit, store, origin, now)?;
    out.flush()?;
    drop(out);
    let length = file.stream_position()?;
    file.set_len(length)?;
    Ok(written)
}

/// Whether less might fit.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use std::io::SeekFrom;
    use std::time::Duration;

    use super::*;
    use crate::protocol::Protocol;
    use crate::session::Content;
    use crate::state::tests::{ORIGIN, at, limits, sample};
    use crate::store::{Owner, Snapshot};

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Kind {
        /// Says at once that there is no room, and writes over what it has.
        Tmpfs,
        /// Needs room again for what is written over.
        CopyOnWrite,
        /// Cannot be written, for another reason.
        Broken,
    }

    /// A file on a file system with room for so many bytes.
    struct Disk {
        kind: Kind,
        room: usize,
        used: usize,
        bytes: Vec<u8>,
        position: usize,
    }

    impl Disk {
        fn new(kind: Kind, room: usize) -> Self {
            Self {
                kind,
                room,
                used: 0,
                bytes: Vec::new(),
                position: 0,
            }
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let free = match self.kind {
                Kind::Tmpfs => self.room - self.position,
                Kind::CopyOnWrite => self.room - self.used,
                Kind::Broken => return Err(ErrorKind::TimedOut.into()),
            };
            // Odd portions, so that not all ends fall on boundaries.
            let count = bytes.len().min(free).min(251);
            if count == 0 && !bytes.is_empty() {
                return Err(ErrorKind::StorageFull.into());
            }
            let end = self.position + count;
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[self.position..end].copy_from_slice(&bytes[..count]);
            self.position = end;
            self.used += count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Disk {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            match to {
                SeekFrom::Start(0) => self.position = 0,
                SeekFrom::Current(0) => {}
                other => panic!("{other:?}"),
            }
            Ok(self.position as u64)
        }
    }

    impl TruncatableFile for Disk {
        fn set_len(&mut self, length: u64) -> io::Result<()> {
            self.bytes.resize(usize::try_from(length).unwrap(), 0);
            if length == 0 {
                self.used = 0;
            }
            Ok(())
        }
    }

    fn read(bytes: &[u8]) -> Vec<Snapshot> {
        let now = at(5_000);
        let store = format::read(bytes, bytes.len() as u64, &ORIGIN, limits(10), now);
        store.unwrap().snapshots(now)
    }

    /// Bytes of a file without sessions, and of each session in a file.
    fn sizes(sessions: &[Snapshot]) -> (usize, Vec<usize>) {
        let mut out = Vec::new();
        let none = Store::new(limits(1).sessions);
        format::write(&mut out, 0, &none, &ORIGIN, at(5_000)).unwrap();
        let size = |saved| {
            let mut bytes = Vec::new();
            format::write_session(&mut bytes, saved).unwrap();
            bytes.len()
        };
        (out.len(), sessions.iter().map(size).collect())
    }

    /// The sessions that fit, each after those before it that do.
    fn fitting(sessions: &[Snapshot], room: usize) -> Vec<Snapshot> {
        let (empty, sizes) = sizes(sessions);
        let mut left = room.saturating_sub(empty);
        let fits = |(saved, size): (&Snapshot, usize)| {
            left = left.checked_sub(size)?;
            Some(saved.clone())
        };
        // A session that does not fit leaves the room to the next.
        sessions.iter().zip(sizes).filter_map(fits).collect()
    }

    /// Ten sessions that do not pass through a writer's buffer at once.
    fn large() -> Store {
        let store = Store::new(limits(10).sessions);
        for size in (1..=10).map(|number| number * 400) {
            let content = Content::new(&vec![b'x'; size], "").unwrap();
            let life = Duration::from_secs(60);
            let made = store.create(content, Protocol::Msc3886, life, Owner::UNKNOWN, at(1_000));
            made.unwrap();
        }
        store
    }

    #[test]
    fn however_little_room_there_is_the_sessions_that_fit_are_kept() {
        for (store, step) in [(sample(), 1), (large(), 41)] {
            let all = store.snapshots(at(5_000));
            let (empty, sizes) = sizes(&all);
            let whole = empty + sizes.iter().sum::<usize>();
            assert!(sizes.iter().min() < sizes.iter().max());
            for room in (0..whole)
                .step_by(step)
                .chain([whole - 1, whole, whole + 1])
            {
                for kind in [Kind::Tmpfs, Kind::CopyOnWrite] {
                    check(&store, kind, room, whole);
                }
            }
        }
    }

    fn check(store: &Store, kind: Kind, room: usize, whole: usize) {
        let all = store.snapshots(at(5_000));
        let mut disk = Disk::new(kind, room);
        let outcome = write(&mut disk, store, &ORIGIN, at(5_000));
        let expected = match kind {
            _ if room >= whole => all.clone(),
            Kind::Tmpfs => fitting(&all, room),
            // How much room there is is guessed there.
            _ => fitting(&all, room / 2),
        };
        let kept = match outcome {
            Ok(kept) => kept,
            Err(error) => {
                assert!(is_shortage(&error), "{kind:?} {room} {error}");
                assert!(expected.is_empty(), "{kind:?} {room}");
                return;
            }
        };
        let there = read(&disk.bytes);
        assert!(disk.bytes.len() <= room, "{kind:?} {room}");
        assert_eq!(there.len(), kept.sessions);
        assert_eq!(there.len() + kept.left_out, all.len());
        assert_eq!(kept.shortage.is_some(), kept.left_out > 0);
        assert_eq!(there, expected, "{kind:?} {room}");
    }

    #[test]
    fn an_error_that_is_no_shortage_is_not_tried_again() {
        let mut disk = Disk::new(Kind::Broken, 10_000);
        let outcome = write(&mut disk, &sample(), &ORIGIN, at(5_000));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
