//! Lines of JSON, in and out.

use std::io::{self, Write};
use std::thread;

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Prints one event.
pub(crate) fn say(event: &Value) {
    let mut out = io::stdout().lock();
    writeln!(out, "{event}")
        .and_then(|()| out.flush())
        .expect("the driver listens");
}

/// The commands that come in.
pub(crate) struct Commands(UnboundedReceiver<Value>);

impl Commands {
    /// Those on standard input, which a thread waits for.
    pub(crate) fn of_stdin() -> Self {
        let (sender, receiver) = unbounded_channel();
        thread::spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                let command = serde_json::from_str(&line).expect("a line of JSON");
                if sender.send(command).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next command; none at the end of the input.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.0.recv().await
    }

    /// The text of a field of the next command, which must have it.
    pub(crate) async fn text(&mut self, field: &str) -> Result<String, String> {
        let command = self.next().await.ok_or("the input has ended")?;
        let text = command[field]
            .as_str()
            .ok_or_else(|| format!("{command} has no {field}"))?;
        Ok(text.to_owned())
    }
}
