//! What the README shows is what happens.

mod common;

use std::fs;
use std::process::Command;

use common::Daemon;

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_rendezvousd"));
    let output = command.arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(block("```text"), help.trim_end());
}

#[test]
fn the_transcript_of_a_meeting_is_what_curl_shows() {
    let daemon = Daemon::start(&[]);
    let block = block("```console");
    let (mut commands, mut expected) = (Vec::new(), Vec::new());
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => {
                commands.push(command.replace("127.0.0.1:8090", &daemon.address.to_string()));
                expected.push(String::new());
            }
            None => expected.last_mut().unwrap().push_str(line.trim_end()),
        }
    }
    assert!(commands.len() > 10 && commands[0].contains(&daemon.address.to_string()));

    let directory = std::env::temp_dir().join(format!("rendezvousd-curl-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let script = commands.join("\necho @@@\n");
    let output = Command::new("sh")
        .args(["-e", "-c", &script])
        .current_dir(&directory)
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "is curl installed? {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let shown: Vec<&str> = text.split("@@@").collect();
    assert_eq!(shown.len(), commands.len());
    for ((shown, expected), command) in shown.iter().zip(&expected).zip(&commands) {
        assert_eq!(shown.trim(), expected, "$ {command}");
    }
}
