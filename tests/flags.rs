//! The command line: right values, wrong values, and what is said of them.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Daemon, program};

fn run(flags: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(flags).output().unwrap()
}

fn error_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[test]
fn wrong_values_are_named_on_one_line_and_exit_2() {
    for (flags, parts) in [
        (
            &["--ttl", "90"][..],
            &["--ttl", "'90'", "no unit", "90s", "90m"][..],
        ),
        (&["--sign-in-ttl", "5"], &["no unit", "5m"]),
        (&["--long-poll", "10"], &["no unit", "10s"]),
        (&["--long-poll", "26s"], &["'26s'", "up to 25s"]),
        (&["--check", "--ttl", "90"], &["no unit"]),
        (&["--ttl", "0s"], &["--ttl", "'0s'", "from 1s"]),
        (&["--ttl", "2days"], &["--ttl", "'2days'", "1day"]),
        (&["--ttl", "soon"], &["--ttl", "'soon'", "90s"]),
        (&["--ttl"], &["--ttl"]),
        (
            &["--sign-in-ttl", "1m"],
            &["--sign-in-ttl", "'1m'", "2m to 5m"],
        ),
        (
            &["--sign-in-ttl", "301s"],
            &["--sign-in-ttl", "'301s'", "2m to 5m"],
        ),
        (
            &["--trusted-proxy", "nginx"],
            &["--trusted-proxy", "'nginx'", "10.0.0.0/8"],
        ),
        (
            &["--trusted-proxy", "0:0:0:0:0:FFFF:a00:1"],
            &["--trusted-proxy", "IPv4 networks as such"],
        ),
        (
            &["--trusted-proxy", "none", "--trusted-proxy", "::1"],
            &["none stands alone"],
        ),
        (&["--max-bytes", "0"], &["--max-bytes", "'0'", "4KiB"]),
        (&["--max-bytes", "2MiB"], &["--max-bytes", "'2MiB'", "1MiB"]),
        (&["--max-bytes", "5GiB"], &["--max-bytes", "'5GiB'", "1MiB"]),
        (&["--max-bytes", "many"], &["--max-bytes", "'many'"]),
        (&["--max-entries", "0"], &["--max-entries", "'0'", "from 1"]),
        (&["--max-entries", "-1"], &["--max-entries", "'-1'"]),
        (&["--max-entries", "1e3"], &["--max-entries", "'1e3'"]),
        (
            &["--max-entries", "100001"],
            &["--max-entries", "'100001'", "from 1 to 100000"],
        ),
        (&["--max-connections", "0"], &["--max-connections", "'0'"]),
        (&["--workers", "0"], &["--workers", "'0'", "from 1 to 256"]),
        (&["--workers", "257"], &["--workers", "'257'"]),
        (
            &["--prefix", "rendezvous"],
            &["--prefix", "'rendezvous'", "slash"],
        ),
        (&["--prefix", "/a//b"], &["--prefix", "'/a//b'"]),
        (&["--prefix", "//"], &["--prefix", "'//'"]),
        (&["--prefix", "/a//"], &["--prefix", "'/a//'"]),
        (&["--prefix", "/a/../b"], &["--prefix", "'/a/../b'"]),
        (&["--prefix", ""], &["--prefix", "''"]),
        (&["--prefix", "/a?b"], &["--prefix", "'/a?b'"]),
        (&["--prefix", "/_matrix/client"], &["--prefix", "/_matrix"]),
        (
            &["--public-url", "example.org"],
            &["--public-url", "https://"],
        ),
        (&["--public-url", "https://"], &["--public-url", "https://"]),
        (
            &["--public-url", "https://a b"],
            &["--public-url", "https://"],
        ),
        (&["--drain", "10"], &["no unit", "10s"]),
        (&["--drain", "301s"], &["'301s'", "up to 5m", "0s"]),
        (&["--node", ""], &["--node", "''", "1 to 8", "node1"]),
        (&["--node", "A"], &["--node", "'A'", "lowercase letters"]),
        (&["--node", "a.b"], &["--node", "'a.b'", "1 to 8"]),
        (&["--node", "node-1"], &["--node", "'node-1'", "1 to 8"]),
        (&["--node", "123456789"], &["--node", "1 to 8"]),
        (&["--node", "ä"], &["--node", "'ä'", "1 to 8"]),
        (
            &["--listen", "8090"],
            &["--listen", "'8090'", "127.0.0.1:8090"],
        ),
        (
            &["--listen", "localhost:1"],
            &["--listen", "'localhost:1'", "127.0.0.1:1 or [::1]:1"],
        ),
        (&["--listen", ":8099"], &["':8099'", "[::]:8099 for all"]),
        (&["--listen", "example.org:1"], &["127.0.0.1:8090", "unix:"]),
        (&["--listen", ":99999"], &["127.0.0.1:8090", "unix:"]),
        (&["--listen", "unix:r.sock"], &["--listen", "slash"]),
        (
            &["--log-level", "loud"],
            &["--log-level", "'loud'", "debug"],
        ),
        (&["--ttl", "1m", "--ttl", "2m"], &["--ttl is given twice"]),
        (
            &["--state-file", "/run/a", "--state-file=/run/b"],
            &["--state-file is given twice", "systemd units"],
        ),
        (&["--speed", "9"], &["unknown flag --speed", "--help"]),
        (
            &["--lisen", "x"],
            &["unknown flag --lisen; did you mean --listen?"],
        ),
        (&["-admin", "x"], &["did you mean --admin?"]),
        (&["--state=/x"], &["did you mean --state-file?"]),
        (&["serve"], &["unknown flag serve"]),
        (
            &["--no-check-page=yes"],
            &["--no-check-page is a switch and takes no value: leave out 'yes'"],
        ),
        (&["--check=1"], &["--check is a switch", "'1'"]),
        (&["--check="], &["--check is a switch", "''"]),
        (&["--check", "1"], &["--check is a switch", "'1'"]),
        (
            &["--ttl", "90s", "--admin-allow-remote=no"],
            &["--admin-allow-remote is a switch", "'no'"],
        ),
        (&["--version=1"], &["--version is a switch", "'1'"]),
        (&["-V", "1"], &["-V is a switch", "'1'"]),
        (&["--check", "--lisen=1"], &["did you mean --listen?"]),
    ] {
        let output = run(flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty());
        let line = error_line(&output);
        for part in parts {
            assert!(line.contains(part), "{flags:?} should name {part}: {line}");
        }
    }
}

#[test]
fn a_public_url_is_scheme_host_and_path() {
    for bad in ["https://a?b", "https://a#b", "https://u@a", "https://a\"b"] {
        let output = run(&["--public-url", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(error_line(&output).contains("--public-url"));
    }
}

#[test]
fn a_public_url_that_has_the_prefix_already_is_refused() {
    let output = run(&["--public-url", "https://m.example/rendezvous"]);
    assert_eq!(output.status.code(), Some(2));
    let line = error_line(&output);
    assert!(
        line.contains("--public-url") && line.contains("without /rendezvous"),
        "{line}"
    );
    Daemon::start(&["--public-url", "https://rendezvous"]);
    let daemon = Daemon::start(&["--public-url", "https://m.example/x"]);
    let start = daemon.start.join("\n");
    assert!(start.contains("https://m.example/x/rendezvous/"), "{start}");
}

#[test]
fn there_are_no_more_workers_than_connections() {
    let daemon = Daemon::start(&["--workers", "4", "--max-connections", "2"]);
    let start = daemon.start.join("\n");
    assert!(start.contains("; 2 connections on 2 workers"), "{start}");
}

#[test]
fn a_log_level_leaves_out_what_is_below_it() {
    let path = std::env::temp_dir().join(format!("rendezvousd-level-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut command = Command::new(program());
    command.args(["--listen", &unix, "--log-level", "warn"]);
    let child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn a_port_that_is_taken_is_one_line_and_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["--listen", &address, "--log-level", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let line = error_line(&output);
    for part in [&address, "in use", "stop the program that has it"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn version_and_help_go_to_standard_output() {
    for flag in ["--version", "-V"] {
        let output = run(&[flag]);
        assert!(output.status.success() && output.stderr.is_empty());
        let expected = format!("rendezvousd {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    for flag in ["--help", "-h"] {
        let output = run(&[flag]);
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(output.stdout.starts_with(b"Usage: rendezvousd "));
    }
}

/// What is logged, without the times in front.
fn without_times(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let rest = |line: String| line.split_once(' ').unwrap().1.to_owned();
    lines.into_iter().map(rest).collect()
}

#[test]
fn a_check_says_what_a_start_says_and_serves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flags in [
        &["--max-entries", "500", "--workers", "1"][..],
        &["--public-url", "https://m.example", "--workers", "2"],
    ] {
        let output = run(&[&["--check", "--listen", &address], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        let mut checked = without_times(text.lines().map(str::to_owned));
        let last = checked.pop().unwrap();
        assert!(last.ends_with("these flags are valid"), "{last}");
        let daemon = Daemon::start(&[flags, &["--long-poll", "10s"]].concat());
        let mut start = without_times(daemon.start.iter().cloned());
        start.pop();
        assert!(checked.iter().any(|line| line.contains("memory: at most")));
        assert_eq!(checked, start);
    }
}

#[test]
fn the_last_line_at_the_start_names_the_check_page() {
    let last = |flags: &[&str]| {
        let daemon = Daemon::start(flags);
        let line = daemon.start.last().unwrap();
        line.replace(&daemon.address.port().to_string(), "PORT")
    };
    let ready = "ready on http://127.0.0.1:PORT";
    for (flags, page) in [
        (
            &[][..],
            " (check page: http://127.0.0.1:PORT/rendezvous/check)",
        ),
        (
            &["--prefix", "/"],
            " (check page: http://127.0.0.1:PORT/check)",
        ),
        (
            &["--public-url", "https://m.example/x"],
            " (check page: https://m.example/x/rendezvous/check)",
        ),
        (&["--no-check-page"], ""),
        (
            &["--no-check-page", "--public-url", "https://m.example"],
            "",
        ),
    ] {
        let line = last(flags);
        assert!(line.ends_with(&[ready, page].concat()), "{flags:?}: {line}");
    }
    // A browser cannot open 0.0.0.0 everywhere.
    let output = Command::new(program())
        .args(["--listen", "0.0.0.0:0"])
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = output.unwrap();
    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let line = std::io::BufRead::lines(stderr)
        .map_while(Result::ok)
        .find(|line| line.contains(" ready on "))
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.contains("ready on http://0.0.0.0:")
            && line.contains("(check page: http://127.0.0.1:"),
        "{line}"
    );
}

#[test]
fn the_start_names_the_limits_in_resolved_numbers() {
    let flags = [
        "--max-bytes",
        "4KB",
        "--max-entries",
        "500",
        "--ttl",
        "90s",
        "--workers",
        "3",
        "--max-connections",
        "99",
    ];
    let mut command = Command::new(program());
    command.args(["--listen", "127.0.0.1:0"]).args(flags);
    command.env("MALLOC_ARENA_MAX", "1");
    let daemon = Daemon::spawn(command);
    let start = daemon.start.join("\n");
    for part in [
        "500 sessions, MSC3886 of 4000 bytes for 1m 30s, sign-in of 4096 bytes for 5m",
        "99 connections on 3 workers",
        // 500 × (23 blocks for payload and type + 6 for transactions, of 192
        // bytes each, + 350 + some 220 for the tree of owners), 32 MiB of
        // buffers + 99 × 710 + what the workers work in, the buckets of 14 336
        // clients.
        "at most 42.6 MiB in all: sessions 2.9 MiB, connections 34.2 MiB, client addresses \
         1.5 MiB, the program 4.0 MiB",
        "MSC3886 and MSC4108 at /rendezvous/, \
         /_matrix/client/unstable/org.matrix.msc3886/rendezvous and \
         /_matrix/client/unstable/org.matrix.msc4108/rendezvous; \
         MSC4388 at /_matrix/client/unstable/io.element.msc4388/rendezvous and \
         /_matrix/client/v1/rendezvous",
    ] {
        assert!(start.contains(part), "{part:?} is missing:\n{start}");
    }
    assert!(!start.contains("WARN"), "{start}");
}

#[test]
fn more_than_the_machine_has_is_a_warning_with_both_numbers() {
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    if kib.parse::<u64>().unwrap() >= 100 << 20 {
        return;
    }
    let flags = ["--max-entries", "100000", "--max-bytes", "1MiB"];
    let daemon = Daemon::start(&flags);
    let warning = daemon.start.iter().find(|line| line.contains("WARN"));
    let warning = warning.expect("a warning");
    assert!(
        warning.contains("can take 100.") && warning.contains("GiB and this program can have"),
        "{warning}"
    );
}

/// The directory of the memory cgroup that the tests run in, where version 1
/// is mounted and we may make another below.
fn own_cgroup() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let line = cgroups.lines().find(|line| line.contains(":memory:"))?;
    let path = line.splitn(3, ':').nth(2)?.trim_start_matches('/');
    let directory = Path::new("/sys/fs/cgroup/memory").join(path);
    directory.is_dir().then_some(directory)
}

#[test]
fn more_than_its_cgroup_allows_is_a_warning_with_both_numbers() {
    let name = format!("rendezvousd-{}", std::process::id());
    let cgroup = own_cgroup().map(|own| own.join(name));
    let Some(cgroup) = cgroup.filter(|path| fs::create_dir(path).is_ok()) else {
        println!("skipped: no memory cgroup of version 1 to be made here");
        return;
    };
    fs::write(cgroup.join("memory.limit_in_bytes"), "64M").unwrap();
    let start = |entries: &str| {
        let mut command = Command::new("sh");
        let procs = cgroup.join("cgroup.procs");
        let script = "echo $$ >\"$1\" && shift && exec \"$@\"";
        command.args(["-c", script, "sh"]).arg(procs);
        command.args([&program(), "--listen", "127.0.0.1:0"]);
        command.args(["--max-connections", "16", "--max-entries", entries]);
        let daemon = Daemon::spawn(command);
        daemon.signal(rustix::process::Signal::TERM);
        let lines = daemon.start.join("\n");
        daemon.wait();
        lines
    };
    let (small, large) = (start("100"), start("20000"));
    fs::remove_dir(&cgroup).unwrap();
    assert!(!small.contains("WARN"), "{small}");
    let part = "this program can have 64.0 MiB (its cgroup's limit; systemd: MemoryMax=): lower";
    assert!(large.contains(part), "{large}");
}

#[test]
fn it_listens_wherever_it_is_told() {
    let path = std::env::temp_dir().join(format!("rendezvousd-flags-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    // A container may have no IPv6; then there is nothing to listen on.
    let ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let mut flags = vec!["--listen", &unix];
    if ipv6 {
        flags.extend(["--listen", "[::1]:0"]);
    }
    let daemon = Daemon::start(&flags);
    let ready = daemon.start.last().unwrap();
    assert!(ready.contains(&unix), "{ready}");
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        let output = command.args(arguments).output().expect("curl is installed");
        String::from_utf8(output.stdout).unwrap()
    };
    let path = path.display().to_string();
    let socket = ["--unix-socket", &path, "http://localhost/rendezvous/x"];
    assert_eq!(curl(&socket), "404");
    // The daemon is killed, and cannot remove it.
    fs::remove_file(&path).unwrap();
    if ipv6 {
        let mut words = ready.split(' ');
        let word = words.find(|word| word.starts_with("http://[::1]"));
        let url = format!("{}/rendezvous/x", word.unwrap());
        assert_eq!(curl(&["-g", &url]), "404");
    }
}
