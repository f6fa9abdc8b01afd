//! A device and its account: the first sign-in, and what there is to see afterwards.

use matrix_sdk::Client;
use matrix_sdk::authentication::oauth::ClientRegistrationData;
use matrix_sdk::authentication::oauth::registration::{
    ApplicationType, ClientMetadata, Localized, OAuthGrantType,
};
use matrix_sdk::config::SyncSettings;
use matrix_sdk::encryption::VerificationState;
use matrix_sdk::reqwest::Url;
use matrix_sdk::ruma::OwnedDeviceId;
use matrix_sdk::ruma::serde::Raw;
use matrix_sdk::utils::UrlOrQuery;
use serde_json::json;
use std::time::Duration;

use crate::Failure;
use crate::talk::{Commands, say};

const CALLBACK: &str = "http://127.0.0.1/callback";
/// A device list arrives with one of the first syncs.
const SYNCS: usize = 5;

/// A client that is not signed in.
pub(crate) async fn connect(homeserver: &str) -> Result<Client, Failure> {
    Ok(Client::builder()
        .homeserver_url(homeserver)
        .handle_refresh_tokens()
        .build()
        .await?)
}

/// What the client tells the authorization server of itself.
pub(crate) fn registration() -> Result<ClientRegistrationData, Failure> {
    let grants = vec![
        OAuthGrantType::AuthorizationCode {
            redirect_uris: vec![Url::parse(CALLBACK)?],
        },
        OAuthGrantType::DeviceCode,
    ];
    let uri = Localized::new(Url::parse("https://client.example.org/")?, []);
    let metadata = ClientMetadata::new(ApplicationType::Native, grants, uri);
    Ok(Raw::new(&metadata)?.into())
}

/// Signs in by a browser, as an account's first device: with new cross-signing
/// keys and a new key backup.
pub(crate) async fn first(client: &Client, commands: &mut Commands) -> Result<(), Failure> {
    let oauth = client.oauth();
    let data = oauth
        .login(Url::parse(CALLBACK)?, None, Some(registration()?), None)
        .build()
        .await?;
    say(&json!({"event": "browse", "url": data.url.as_str()}));
    let back = commands.text("callback").await?;
    oauth
        .finish_login(UrlOrQuery::Url(Url::parse(&back)?))
        .await?;
    let encryption = client.encryption();
    encryption.wait_for_e2ee_initialization_tasks().await;
    sync(client).await?;
    encryption.bootstrap_cross_signing(None).await?;
    encryption.backups().create().await?;
    sync(client).await?;
    say(&json!({"event": "ready"}));
    Ok(())
}

async fn sync(client: &Client) -> Result<(), Failure> {
    client
        .sync_once(SyncSettings::new().timeout(Duration::ZERO))
        .await?;
    Ok(())
}

/// Says who this device is, what it has and what it thinks of itself.
pub(crate) async fn report(client: &Client) -> Result<(), Failure> {
    let who = client.whoami().await?;
    let encryption = client.encryption();
    let keys = encryption
        .cross_signing_status()
        .await
        .ok_or("there is no key store")?;
    let device = encryption
        .get_own_device()
        .await?
        .ok_or("does not know its own device")?;
    let verified = encryption.verification_state().get() == VerificationState::Verified;
    say(&json!({
        "event": "report",
        "user": who.user_id,
        "device": who.device_id,
        "secrets": [keys.has_master, keys.has_self_signing, keys.has_user_signing],
        "backup": encryption.backups().are_enabled().await,
        "verified": verified && device.is_cross_signed_by_owner() && device.is_verified_with_cross_signing(),
    }));
    Ok(())
}

/// Syncs, and says whether another device of this account is trusted.
pub(crate) async fn trust(client: &Client, device: &str) -> Result<(), Failure> {
    let user = client.user_id().ok_or("is not signed in")?;
    let mut trusted = false;
    for _ in 0..SYNCS {
        sync(client).await?;
        let found = client
            .encryption()
            .get_device(user, &OwnedDeviceId::from(device))
            .await?;
        trusted =
            found.is_some_and(|device| device.is_cross_signed_by_owner() && device.is_verified());
        if trusted {
            break;
        }
    }
    say(&json!({"event": "trust", "trusted": trusted}));
    Ok(())
}
