//! Sessions that outlive a restart: written to a file at the end, read back
//! and removed at the next start. Ends are points on the machine's steady
//! clock, so that lives go on through the gap; after a reboot the file says
//! nothing.

mod fit;
mod format;

pub use fit::Kept;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::clock::Timestamp;
use crate::store::Store;
use format::{Boot, Limits};

/// Why sessions were not read back.
#[derive(Debug)]
pub enum LoadError {
    /// Nothing can be written there, so that nothing would be at the end.
    NotWritable(io::Error),
    /// What is there cannot be read or removed.
    Io(io::Error),
    /// What is there is no regular file, or somebody else's.
    NotOurs,
    /// It is no state file.
    Foreign,
    /// It has a version that this program does not know.
    Version(u32),
    /// It was written before the machine was started last.
    OtherBoot,
    /// It is not as it was written.
    Damaged,
}

impl LoadError {
    /// Whether what is there is not ours to replace.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::NotOurs | Self::Foreign)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritable(error) => write!(f, "cannot be written: {error}"),
            Self::Io(error) => write!(f, "cannot be read and removed: {error}"),
            Self::NotOurs => f.write_str("is not a regular file of this user's own"),
            Self::Foreign => f.write_str("is no state file"),
            Self::Version(version) => write!(
                f,
                "is of version {version}, and this program knows {} to {}",
                format::OLDEST_VERSION,
                format::VERSION
            ),
            Self::OtherBoot => f.write_str("was written before the machine was started last"),
            Self::Damaged => f.write_str("is damaged"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

/// Writes all that live at `now` to a file that only its owner may read, in
/// place of what is there; where there is no room for all, the most recently
/// used that fit. The store is locked meanwhile.
///
/// # Errors
/// What the system says; what was there is there still.
pub fn save(path: &Path, store: &Store, now: Timestamp) -> io::Result<Kept> {
    let boot = this_boot()?;
    let mut new = Temporary::create(path)?;
    let kept = fit::write(&mut new.file, store, &boot, now)?;
    fs::rename(&new.path, path)?;
    Ok(kept)
}

/// Puts the sessions of a file, if there is one, into a store instead of its
/// own and removes the file; returns how many they are. Those that have ended
/// or have payloads of more than `largest` bytes are left out, and so are the
/// least recently used of more than the store can hold.
///
/// # Errors
/// [`LoadError`]; the store is as it was, and so is the file.
pub fn load(
    path: &Path,
    store: &mut Store,
    largest: usize,
    now: Timestamp,
) -> Result<usize, LoadError> {
    let boot = this_boot().map_err(LoadError::NotWritable)?;
    let attempt = Temporary::create(path).map(drop);
    let file = match &attempt {
        // A file that is there makes room once it is removed.
        Err(error) if !fit::is_shortage(error) => None,
        _ => open(path)?,
    };
    let Some(file) = file else {
        return attempt.map(|()| 0).map_err(LoadError::NotWritable);
    };
    let limits = Limits {
        sessions: store.capacity(),
        payload: largest,
    };
    let length = file.metadata()?.len();
    let restored = format::read(BufReader::new(file), length, &boot, limits, now)?;
    // A file that stays would be read again after a crash, when its sessions
    // have long been written to.
    fs::remove_file(path)?;
    *store = restored;
    Ok(usize::try_from(store.counts().live).unwrap_or(usize::MAX))
}

/// What tells this boot of the machine from all others.
fn this_boot() -> io::Result<Boot> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let unknown = |why: &dyn fmt::Display| io::Error::other(format!("{FILE}: {why}"));
    let text = fs::read_to_string(FILE).map_err(|error| unknown(&error))?;
    let id = text.trim_end().as_bytes();
    Boot::try_from(id).map_err(|error| unknown(&error))
}

/// Opens the file if there is one, and it is ours.
fn open(path: &Path) -> Result<Option<File>, LoadError> {
    // Nothing but a regular file is waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(LoadError::NotOurs),
        Err(error) => return Err(LoadError::Io(error.into())),
    };
    let about = file.metadata()?;
    if about.is_file() && about.uid() == geteuid().as_raw() {
        Ok(Some(file))
    } else {
        Err(LoadError::NotOurs)
    }
}

/// A new file beside another, removed unless it has been renamed.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn create(beside: &Path) -> io::Result<Self> {
        let path = beside.with_added_extension("new");
        // One that a crash has left, or a link that somebody has laid: what
        // stands there then is not opened, so it does not matter.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is not there if it has been renamed.
        let _ = fs::remove_file(&self.path);
    }
}
