//! What the README shows is what happens.

mod common;

use std::fs;
use std::process::Command;

use common::{Daemon, program};

/// The README's block that begins with this line, without its fences.
fn block(fence: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(path).unwrap();
    let opening = format!("\n{fence}\n");
    let mut blocks = readme.split(&opening).skip(1);
    let block = blocks.next().expect(fence).split("\n```").next().unwrap();
    assert!(blocks.next().is_none(), "several blocks begin with {fence}");
    block.to_owned()
}

#[test]
fn the_flags_are_those_that_help_prints() {
    let mut command = Command::new(program());
    let output = command.arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(block("```text"), help.trim_end());
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
    assert!(steps.iter().filter(|(_, shown)| !shown.is_empty()).count() > 6);
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
}

/// Whole configurations that `tests/proxies/run` starts the real proxies with.
const CONFIGURATIONS: [(&str, &str); 5] = [
    ("nginx", "good/nginx.conf"),
    ("nginx", "auth/nginx.conf"),
    ("caddy", "good/Caddyfile"),
    ("apache", "good/apache.conf"),
    ("haproxy", "good/haproxy.cfg"),
];

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

#[test]
fn every_line_for_a_proxy_is_one_that_a_real_one_was_tried_with() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |path: &str| fs::read_to_string(format!("{root}{path}")).expect(path);
    let files = CONFIGURATIONS.map(|(kind, path)| {
        let text = lines(&read(&format!("tests/proxies/{path}")));
        (kind, path, text)
    });
    let readme = read("README.md");
    let mut shown: Vec<&str> = Vec::new();
    let mut fence: Option<&str> = None;
    let mut block = String::new();
    for line in readme.lines() {
        let Some(language) = line.trim_start().strip_prefix("```") else {
            let route = ROUTES.iter().any(|word| line.trim().starts_with(word));
            let kind = fence.filter(|fence| files.iter().any(|(kind, ..)| kind == fence));
            assert!(!route || kind.is_some(), "for which proxy? {line}");
            block.extend([line, "\n"]);
            continue;
        };
        if let Some(fence) = fence.take() {
            let of_kind = files.iter().filter(|(kind, ..)| *kind == fence);
            let block = lines(&std::mem::take(&mut block));
            let found = of_kind.clone().find(|(.., text)| text.contains(&block));
            let path = found.map(|(_, path, _)| *path);
            assert!(of_kind.count() == 0 || path.is_some(), "{fence}:\n{block}");
            shown.extend(path);
        } else {
            fence = Some(language);
            block.clear();
        }
    }
    shown.sort_unstable();
    let mut all = CONFIGURATIONS.map(|(_, path)| path);
    all.sort_unstable();
    assert_eq!(shown, all, "each is shown once");
}
