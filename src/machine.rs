//! Memory that this program can have: the machine's, or less if a cgroup limits
//! it (`MemoryMax=` of a systemd unit, the limit of a container).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

/// An upper limit of the program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// How much, in bytes.
    pub bytes: u64,
    /// Whether it is the limit of a cgroup.
    pub cgroup: bool,
}

impl Memory {
    /// The smallest of what the machine has, a pointer can address and the
    /// cgroups above this process allow.
    #[must_use]
    pub fn available() -> Self {
        let machine = rustix::system::sysinfo();
        let memory = (machine.totalram as u64).saturating_mul(machine.mem_unit.into());
        // 32 bits address less than some machines have.
        let memory = memory.min(usize::MAX as u64);
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let limit = cgroup_limit(
            &text("/proc/self/cgroup"),
            &text("/proc/self/mountinfo"),
            |path| fs::read_to_string(path).ok(),
        );
        Self::smaller(memory, limit)
    }

    fn smaller(machine: u64, cgroup: Option<u64>) -> Self {
        match cgroup {
            Some(bytes) if bytes < machine => Self {
                bytes,
                cgroup: true,
            },
            _ => Self {
                bytes: machine,
                cgroup: false,
            },
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize(self.bytes))?;
        if self.cgroup {
            f.write_str(" (its cgroup's limit; systemd: MemoryMax=)")?;
        }
        Ok(())
    }
}

/// The smallest memory limit of the process's cgroups, from its own up to the
/// root of each mounted hierarchy. The texts are those of `/proc/self/cgroup`
/// (cgroups(7)) and `/proc/self/mountinfo` (proc(5)).
fn cgroup_limit(
    cgroups: &str,
    mountinfo: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let mounts = mountinfo.lines().filter_map(Mount::parse);
    let limits = mounts.flat_map(|mount| {
        let file = mount.version.limit_file();
        let directories = mount.directories(cgroups);
        directories.into_iter().map(move |path| path.join(file))
    });
    // No number is "max", no limit; version 1 has a huge one for that.
    limits
        .filter_map(|path| read(&path)?.trim().parse().ok())
        .min()
}

/// The two designs of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    /// The process's cgroup in the hierarchy with the memory controller: of
    /// lines like `4:memory:/a/b`, and `0::/a/b` in version 2.
    fn cgroup(self, cgroups: &str) -> Option<&Path> {
        cgroups.lines().find_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let found = match self {
                Self::One => controllers.split(',').any(|name| name == "memory"),
                Self::Two => number == "0" && controllers.is_empty(),
            };
            found.then_some(Path::new(path))
        })
    }
}

/// A mounted cgroup hierarchy, or a part of one.
#[derive(Debug)]
struct Mount {
    version: Version,
    /// The cgroup that the mount point shows.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Reads a line of mountinfo: number, parent, device, root, mount point,
    /// options, optional fields, a dash, type, source, options of the type.
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|name| name == "memory") => Version::One,
            _ => return None,
        };
        let mut fields = mount.split(' ').skip(3);
        Some(Self {
            version,
            root: fields.next()?.into(),
            point: fields.next()?.into(),
        })
    }

    /// The process's cgroup as a directory and those above it, as far as they
    /// are to be seen here.
    fn directories(&self, cgroups: &str) -> Vec<PathBuf> {
        let below = self
            .version
            .cgroup(cgroups)
            .and_then(|path| path.strip_prefix(&self.root).ok());
        below.map_or_else(Vec::new, |below| {
            below
                .ancestors()
                .map(|path| self.point.join(path))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    const CGROUP2: &str = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    /// The limit where these files are all that can be read.
    fn limit(cgroups: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<u64> {
        cgroup_limit(cgroups, mountinfo, |path| {
            let (_, text) = files.iter().find(|(name, _)| Path::new(name) == path)?;
            Some((*text).to_owned())
        })
    }

    #[test]
    fn the_limit_of_a_unit_is_read() {
        let files = [
            (
                "/sys/fs/cgroup/system.slice/rendezvousd.service/memory.max",
                "268435456\n",
            ),
            ("/sys/fs/cgroup/system.slice/memory.max", "max\n"),
        ];
        let cgroups = "0::/system.slice/rendezvousd.service\n";
        assert_eq!(limit(cgroups, CGROUP2, &files), Some(256 * MIB));
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "300\n"),
            ("/sys/fs/cgroup/a/memory.max", "100\n"),
            ("/sys/fs/cgroup/memory.max", "200\n"),
            ("/sys/fs/memory.max", "1\n"),
            ("/sys/fs/cgroup/other/memory.max", "2\n"),
        ];
        assert_eq!(limit("0::/a/b\n", CGROUP2, &files), Some(100));
        assert_eq!(limit("0::/\n", CGROUP2, &files), Some(200));
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let max = [("/sys/fs/cgroup/a/memory.max", "max\n")];
        assert_eq!(limit("0::/a\n", CGROUP2, &max), None);
        assert_eq!(limit("0::/a\n", CGROUP2, &[]), None);
        assert_eq!(limit("0::/a\n", "", &max), None);
        assert_eq!(limit("", CGROUP2, &max), None);
        assert_eq!(limit("no colon", "neither - this\n", &max), None);
    }

    #[test]
    fn version_1_is_the_hierarchy_of_the_memory_controller() {
        let cgroups = "9:name=systemd:/x\n4:cpu,memory:/a\n3:cpuset:/y\n0::/z\n";
        let mountinfo = "\
            32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 master:1 - cgroup cgroup rw,cpu,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let files = [
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "500\n"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/cpuset/y/memory.limit_in_bytes", "1\n"),
            ("/sys/fs/cgroup/unified/a/memory.max", "2\n"),
        ];
        assert_eq!(limit(cgroups, mountinfo, &files), Some(500));
        // Both designs at once: what is mounted and has a limit.
        let both = [files[0], ("/sys/fs/cgroup/unified/z/memory.max", "400\n")];
        assert_eq!(limit(cgroups, mountinfo, &both), Some(400));
    }

    #[test]
    fn a_container_sees_its_own_cgroup_as_the_mount() {
        let mountinfo = "9 8 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n")];
        assert_eq!(
            limit("4:memory:/docker/abc\n", mountinfo, &files),
            Some(700)
        );
        // Not the cgroup of another one.
        assert_eq!(limit("4:memory:/docker/abcd\n", mountinfo, &files), None);
    }

    #[test]
    fn a_cgroup_counts_if_it_allows_less_than_the_machine_has() {
        let shown = |machine, cgroup| Memory::smaller(machine, cgroup).to_string();
        assert_eq!(shown(512 * MIB, None), "512.0 MiB");
        assert_eq!(shown(512 * MIB, Some(u64::MAX)), "512.0 MiB");
        assert_eq!(
            shown(512 * MIB, Some(256 * MIB)),
            "256.0 MiB (its cgroup's limit; systemd: MemoryMax=)"
        );
    }
}
