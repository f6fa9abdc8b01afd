//! The state file on disk.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::error::LoadError;
use super::fit::{self, SaveOutcome};
use super::format::{self, Limits, Origin};
use crate::clock::Timestamp;
use crate::session::NodeName;
use crate::store::Store;

/// Writes all that live at `now` to a file that only its owner may read, in
/// place of what is there; if they do not fit, the most recently used that do.
/// The store is locked meanwhile.
///
/// # Errors
/// What the system says; what was there is there still.
pub fn save(
    path: &Path,
    store: &Store,
    node: Option<NodeName>,
    now: Timestamp,
) -> io::Result<SaveOutcome> {
    let boot = this_boot()?;
    let origin = Origin { boot, node };
    let mut new = Temporary::create(path)?;
    let outcome = fit::write(&mut new.file, store, &origin, now)?;
    fs::rename(&new.path, path)?;
    Ok(outcome)
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
    node: Option<NodeName>,
    now: Timestamp,
) -> Result<usize, LoadError> {
    let boot = this_boot().map_err(LoadError::NotWritable)?;
    let origin = Origin { boot, node };
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
    let restored = format::read(BufReader::new(file), length, &origin, limits, now)?;
    // A file that stays would be read again after a crash, when its sessions
    // have long been written to.
    fs::remove_file(path)?;
    *store = restored;
    Ok(usize::try_from(store.counts().live).unwrap_or(usize::MAX))
}

/// What tells this boot of the machine from all others.
fn this_boot() -> io::Result<[u8; 36]> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let unknown = |why: &dyn fmt::Display| io::Error::other(format!("{FILE}: {why}"));
    let text = fs::read_to_string(FILE).map_err(|error| unknown(&error))?;
    let id = text.trim_end().as_bytes();
    <[u8; 36]>::try_from(id).map_err(|error| unknown(&error))
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
        let mut path = beside.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        // One that a crash has left, or a link that another user has made: what
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
