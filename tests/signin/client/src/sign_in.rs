//! The four parts in a sign-in with QR code: new or old device, which shows the code
//! or scans it.

use std::future::{IntoFuture, pending};

use futures_util::{Stream, StreamExt, pin_mut};
use matrix_sdk::Client;
use matrix_sdk::authentication::oauth::qrcode::{
    CheckCodeSender, GeneratedQrProgress, GrantLoginProgress, LoginProgress, QrCodeData, QrProgress,
};
use serde_json::{Value, json};
use tokio::select;

use crate::Failure;
use crate::account::registration;
use crate::talk::{Commands, say};

/// What a device says on its way, whichever it is.
enum Step {
    Nothing,
    Code(QrCodeData),
    Scanned(CheckCodeSender),
    CheckCode(u8),
    UserCode(String),
    Consent(String),
}

impl From<GeneratedQrProgress> for Step {
    fn from(progress: GeneratedQrProgress) -> Self {
        match progress {
            GeneratedQrProgress::QrReady(code) => Self::Code(code),
            GeneratedQrProgress::QrScanned(sender) => Self::Scanned(sender),
        }
    }
}

impl From<QrProgress> for Step {
    fn from(progress: QrProgress) -> Self {
        Self::CheckCode(progress.check_code.to_digit())
    }
}

impl<Q: Into<Self>> From<LoginProgress<Q>> for Step {
    fn from(progress: LoginProgress<Q>) -> Self {
        match progress {
            LoginProgress::EstablishingSecureChannel(progress) => progress.into(),
            LoginProgress::WaitingForToken { user_code } => Self::UserCode(user_code),
            _ => Self::Nothing,
        }
    }
}

impl<Q: Into<Self>> From<GrantLoginProgress<Q>> for Step {
    fn from(progress: GrantLoginProgress<Q>) -> Self {
        match progress {
            GrantLoginProgress::EstablishingSecureChannel(progress) => progress.into(),
            GrantLoginProgress::WaitingForAuth { verification_uri } => {
                Self::Consent(verification_uri.into())
            }
            _ => Self::Nothing,
        }
    }
}

pub(crate) async fn show_as_new(client: &Client, commands: &mut Commands) -> Result<(), Failure> {
    let (oauth, registration) = (client.oauth(), registration()?);
    let login = oauth.login_with_qr_code(Some(&registration)).generate();
    let progress = login.subscribe_to_progress();
    follow(login, progress, Some(commands)).await
}

pub(crate) async fn scan_as_new(client: &Client, code: &Value) -> Result<(), Failure> {
    let (oauth, registration, code) = (client.oauth(), registration()?, scanned(code)?);
    let login = oauth.login_with_qr_code(Some(&registration)).scan(&code);
    let progress = login.subscribe_to_progress();
    follow(login, progress, None).await
}

pub(crate) async fn show_as_old(client: &Client, commands: &mut Commands) -> Result<(), Failure> {
    let oauth = client.oauth();
    let grant = oauth.grant_login_with_qr_code().generate();
    let progress = grant.subscribe_to_progress();
    follow(grant, progress, Some(commands)).await
}

pub(crate) async fn scan_as_old(client: &Client, code: &Value) -> Result<(), Failure> {
    let (oauth, code) = (client.oauth(), scanned(code)?);
    let grant = oauth.grant_login_with_qr_code().scan(&code);
    let progress = grant.subscribe_to_progress();
    follow(grant, progress, None).await
}

fn scanned(code: &Value) -> Result<QrCodeData, Failure> {
    let bytes: Vec<u8> = serde_json::from_value(code.clone())?;
    Ok(QrCodeData::from_bytes(&bytes)?)
}

/// Lets the SDK do its part, and says what it says.
async fn follow<F, E, P>(
    part: F,
    progress: P,
    commands: Option<&mut Commands>,
) -> Result<(), Failure>
where
    F: IntoFuture<Output = Result<(), E>>,
    E: std::error::Error + 'static,
    P: Stream<Item: Into<Step>>,
{
    select! {
        result = part.into_future() => result?,
        error = relay(progress, commands) => return Err(error),
    }
    say(&json!({"event": "done"}));
    Ok(())
}

/// Ends only if the driver does something strange.
async fn relay<P>(progress: P, mut commands: Option<&mut Commands>) -> Failure
where
    P: Stream<Item: Into<Step>>,
{
    pin_mut!(progress);
    while let Some(step) = progress.next().await {
        match step.into() {
            Step::Nothing => {}
            Step::Code(code) => say(&json!({"event": "code", "code": code.to_bytes()})),
            Step::CheckCode(code) => {
                say(&json!({"event": "check_code", "code": format!("{code:02}")}))
            }
            Step::UserCode(code) => say(&json!({"event": "user_code", "code": code})),
            Step::Consent(url) => say(&json!({"event": "consent", "url": url})),
            Step::Scanned(sender) => {
                let Some(commands) = commands.as_mut() else {
                    continue;
                };
                say(&json!({"event": "scanned"}));
                if let Err(error) = enter(commands, &sender).await {
                    return error;
                }
            }
        }
    }
    pending().await
}

/// The check code, as a person types it in.
async fn enter(commands: &mut Commands, sender: &CheckCodeSender) -> Result<(), Failure> {
    let code = commands.text("check_code").await?;
    Ok(sender.send(code.parse()?).await?)
}
