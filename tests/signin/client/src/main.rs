//! A device of matrix-rust-sdk, driven by lines of JSON: commands on standard
//! input, events on standard output. `device.mjs` of tests/sdk/msc4108 speaks the same.

mod account;
mod sign_in;
mod talk;

use std::error::Error;

use matrix_sdk::Client;
use serde_json::{Value, json};

use crate::talk::{Commands, say};

/// What anything here can fail with; the driver gets it as text.
pub(crate) type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut commands = Commands::of_stdin();
    let mut client = None;
    while let Some(command) = commands.next().await {
        if let Err(error) = obey(&mut client, &command, &mut commands).await {
            say(&json!({"event": "failed", "reason": reason(&*error)}));
        }
    }
}

/// The error with its causes.
fn reason(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn obey(
    client: &mut Option<Client>,
    command: &Value,
    commands: &mut Commands,
) -> Result<(), Failure> {
    if client.is_none() {
        let homeserver = command["homeserver"]
            .as_str()
            .ok_or("no homeserver is named")?;
        *client = Some(account::connect(homeserver).await?);
    }
    let client = client.as_ref().expect("connected above");
    let name = command["do"].as_str().unwrap_or_default();
    match (name, command["as"].as_str()) {
        ("first", _) => account::first(client, commands).await?,
        ("show", Some("new")) => sign_in::show_as_new(client, commands).await?,
        ("show", Some("old")) => sign_in::show_as_old(client, commands).await?,
        ("scan", Some("new")) => sign_in::scan_as_new(client, &command["code"]).await?,
        ("scan", Some("old")) => sign_in::scan_as_old(client, &command["code"]).await?,
        ("report", _) => account::report(client).await?,
        ("trust", _) => {
            account::trust(client, command["device"].as_str().unwrap_or_default()).await?
        }
        _ => return Err(format!("no such command: {command}").into()),
    }
    Ok(())
}
