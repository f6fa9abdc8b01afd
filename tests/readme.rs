//! What the README and the documents that it points to say is so.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Daemon, program};

fn read(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    fs::read_to_string(format!("{root}{path}")).expect(path)
}

/// The README's block that begins with this line, without its fences.
fn block(fence: &str) -> String {
    let readme = read("README.md");
    let opening = format!("\n{fence}\n");
    let mut blocks = readme.split(&opening).skip(1);
    let block = blocks.next().expect(fence).split("\n```").next().unwrap();
    assert!(blocks.next().is_none(), "several blocks begin with {fence}");
    block.to_owned()
}

#[test]
fn it_is_read_in_ten_minutes() {
    assert!(read("README.md").lines().count() <= 300);
}

#[test]
fn the_flags_that_it_names_exist() {
    let output = Command::new(program()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let readme = read("README.md");
    let section = readme.split("\n## Flags that people set\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let flags: Vec<&str> = rows
        .flat_map(|row| row.split('`').next().unwrap().split(' '))
        .filter(|word| word.starts_with("--"))
        .collect();
    assert!(flags.len() > 5, "{flags:?}");
    for flag in flags {
        assert!(help.contains(&format!("\n  {flag} ")), "{flag}");
    }
}

/// What GitHub makes of a heading for links to it.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let text: String = heading.chars().filter(kept).collect();
    text.to_lowercase().replace(' ', "-")
}

fn anchors(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let lines = text.lines().filter(|line| line.starts_with("##"));
    lines
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// Every document below a directory of the repository: `.md` files, but not of what
/// was built or downloaded.
fn documents(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{directory}{name}");
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                found.extend(documents(&format!("{path}/")));
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for document in &documents("") {
        let text = read(document);
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.starts_with("https://") {
                continue;
            }
            assert!(!target.contains("://"), "{document}: {target}");
            links += 1;
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = match path {
                "" => root.join(document),
                _ => root.join(document).parent().unwrap().join(path),
            };
            let file = file.canonicalize();
            let file = file.unwrap_or_else(|error| panic!("{document}: {target}: {error}"));
            if !heading.is_empty() {
                let path = file.strip_prefix(root.canonicalize().unwrap()).unwrap();
                let known = anchors(path.to_str().unwrap());
                assert!(known.contains(heading), "{document}: {target}: {known:?}");
            }
        }
    }
    assert!(links > 20, "{links}");
}

#[test]
fn the_changelog_of_the_package_begins_with_this_version() {
    let changelog = read("systemd/deb/changelog");
    let version = concat!("rendezvousd (", env!("CARGO_PKG_VERSION"), "-");
    assert!(changelog.starts_with(version), "{changelog}");
}

#[test]
fn the_lines_for_synapse_are_those_that_a_real_one_is_given() {
    let lines = include_str!("synapse/homeserver.yaml");
    assert_eq!(block("```yaml"), lines.trim_end());
}

/// The commands of the transcript, each with what it prints.
fn transcript() -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block("```sh").lines() {
        if let Some(shown) = line.strip_prefix("#> ") {
            steps.last_mut().expect("a command").1 += shown;
        } else if !line.is_empty() && !line.starts_with('#') {
            steps.push((line.to_owned(), String::new()));
        }
    }
    steps
}

#[test]
fn the_transcript_of_a_meeting_is_what_curl_shows() {
    let daemon = Daemon::start(&[]);
    let steps = transcript();
    assert!(steps.iter().filter(|(_, shown)| !shown.is_empty()).count() > 5);
    let script: Vec<&str> = steps.iter().map(|(command, _)| command.as_str()).collect();
    let script = script.join("\necho @@@\n");
    assert!(script.contains("127.0.0.1:8090"));
    let script = script.replace("127.0.0.1:8090", &daemon.address.to_string());
    let directory = std::env::temp_dir().join(format!("rendezvousd-curl-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let output = Command::new("bash")
        .args(["-e", "-c", &script])
        .env("TMPDIR", &directory)
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is curl installed? {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<&str> = text.split("@@@").collect();
    assert_eq!(shown.len(), steps.len());
    for (shown, (command, expected)) in shown.iter().zip(&steps) {
        assert_eq!(shown.trim(), expected, "{command}");
    }
    let start = daemon.start.clone();
    daemon.signal(rustix::process::Signal::TERM);
    let (lines, _) = daemon.wait();
    for line in start.iter().chain(&lines) {
        assert!(
            !line.contains(" WARN ") && !line.contains(" ERROR "),
            "{line}"
        );
    }
}

/// Whole configurations that `tests/proxies/run` and `tests/nodes/run` start the real
/// proxies with, and how many blocks of the documents are parts of each.
const CONFIGURATIONS: [(&str, &str, usize); 13] = [
    ("nginx", "proxies/good/nginx.conf", 1),
    ("nginx", "proxies/extras/nginx.conf", 2),
    ("nginx", "proxies/auth/nginx.conf", 1),
    ("nginx", "nodes/nginx.conf", 2),
    ("caddy", "proxies/good/Caddyfile", 1),
    ("caddy", "proxies/extras/Caddyfile", 1),
    ("caddy", "nodes/Caddyfile", 1),
    ("apache", "proxies/good/apache.conf", 1),
    ("apache", "proxies/extras/apache.conf", 1),
    ("apache", "proxies/waf/apache.conf", 1),
    ("haproxy", "proxies/good/haproxy.cfg", 1),
    ("haproxy", "proxies/extras/haproxy.cfg", 1),
    ("haproxy", "nodes/haproxy.cfg", 1),
];

/// The end of a heading above what is shown untried.
const UNTRIED: &str = "(not run here)";

/// What lines of such a configuration begin with, if it sends requests to us.
const ROUTES: [&str; 5] = [
    "location",
    "proxy_pass",
    "reverse_proxy",
    "ProxyPass",
    "use_backend",
];

/// The lines in order, each as far as it is not indentation.
fn lines(text: &str) -> String {
    text.lines()
        .flat_map(|line| [line.trim(), "\n"])
        .collect::<String>()
}

/// Fenced blocks of a document, with their language and the heading above.
fn blocks(document: &str) -> Vec<(String, String, String)> {
    let mut blocks = Vec::new();
    let (mut heading, mut open) = (String::new(), None);
    for line in read(document).lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            match open.take() {
                Some(block) => blocks.push(block),
                None => open = Some((language.to_owned(), heading.clone(), String::new())),
            }
        } else if let Some((.., block)) = &mut open {
            block.extend([line, "\n"]);
        } else if line.starts_with('#') {
            line.clone_into(&mut heading);
        } else {
            let route = ROUTES.iter().any(|word| line.trim().starts_with(word));
            assert!(!route, "{document}: for which proxy? {line}");
        }
    }
    assert!(open.is_none(), "{document}: a block does not end");
    blocks
}

#[test]
fn every_line_for_a_proxy_is_one_that_a_real_one_was_tried_with() {
    let files = CONFIGURATIONS.map(|(kind, path, _)| {
        let text = lines(&read(&format!("tests/{path}")));
        (kind, path, text)
    });
    let mut shown: Vec<&str> = Vec::new();
    for document in [
        "README.md",
        "tests/proxies/README.md",
        "tests/nodes/README.md",
    ] {
        for (language, heading, block) in blocks(document) {
            if heading.ends_with(UNTRIED) {
                continue;
            }
            let of_kind = files.iter().filter(|(kind, ..)| *kind == language);
            let block = lines(&block);
            let found = of_kind.clone().find(|(.., text)| text.contains(&block));
            let routes = ROUTES.iter().any(|word| block.contains(word));
            let must = routes || of_kind.count() > 0;
            assert!(!must || found.is_some(), "{document}: {language}:\n{block}");
            shown.extend(found.map(|(_, path, _)| *path));
        }
    }
    for (_, path, times) in CONFIGURATIONS {
        let count = shown.iter().filter(|shown| **shown == path).count();
        assert_eq!(count, times, "blocks from {path}");
    }
}

#[test]
fn labels_for_traefik_are_those_of_the_compose_file() {
    let compose = lines(&read("systemd/container/compose.yaml"));
    let (.., labels) = blocks("tests/proxies/README.md")
        .into_iter()
        .find(|(.., block)| block.starts_with("labels:"))
        .unwrap();
    let labels: Vec<&str> = labels.lines().skip(1).map(str::trim).collect();
    assert!(labels.len() > 4, "{labels:?}");
    for label in labels {
        assert!(compose.contains(&format!("{label}\n")), "{label}");
    }
}
