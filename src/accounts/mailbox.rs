//! From an account's row to a mailbox that can be opened: endpoint, deadlines, and credentials with a fresh token.

use std::time::Duration;

use sea_orm::{ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    entity::account,
    settings::{Inbound, InboundAuth, InboundSecurity, OauthGrant, oauth_of},
};
use crate::{
    app::App,
    id::AccountId,
    mail::{
        imap::{Credentials, ImapError, Timeouts},
        oauth::{Grant, OauthError, Token, TokenRequest, fetch_token},
        tls::{Deadlines, Endpoint, Security},
    },
    secret::{Sealer, SecretError},
};

/// The longest that a fetch or a list may take.
const TRANSFER: Duration = Duration::from_secs(600);
/// The longest that the token server may take.
const TOKEN: Duration = Duration::from_secs(30);

/// The purpose under which an account's password is sealed.
pub fn password_purpose(id: AccountId) -> String {
    format!("account:{id}:password")
}

/// The purpose under which an account's OAuth secrets are sealed.
pub fn oauth_purpose(id: AccountId) -> String {
    format!("account:{id}:oauth")
}

/// The OAuth secrets of an account.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    /// The client's secret.
    pub client_secret: Option<String>,
    /// The refresh token.
    pub refresh_token: Option<String>,
}

impl Secrets {
    /// Opens the stored secrets; none are stored as none.
    ///
    /// # Errors
    /// When they were sealed under another key.
    pub fn open(sealer: &Sealer, row: &account::Model) -> Result<Self, SecretError> {
        let Some(sealed) = &row.oauth_sealed else { return Ok(Self::default()) };
        let opened = sealer.open(&oauth_purpose(row.id), sealed)?;
        serde_json::from_slice(&opened).map_err(|_| SecretError::CannotOpen)
    }

    /// Seals them; nothing to seal gives none.
    ///
    /// # Errors
    /// When they are absurdly long.
    pub fn seal(&self, sealer: &Sealer, id: AccountId) -> Result<Option<Vec<u8>>, SecretError> {
        if self.client_secret.is_none() && self.refresh_token.is_none() {
            return Ok(None);
        }
        let json = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(|_| SecretError::CannotOpen)?);
        sealer.seal(&oauth_purpose(id), &json).map(Some)
    }
}

/// Why a mailbox cannot be read; the text is for an administrator and holds no secret.
#[derive(Debug, Error)]
pub enum MailboxError {
    /// Something is missing in the settings.
    #[error("the settings are not complete: {0}")]
    Incomplete(&'static str),
    /// A stored secret cannot be opened.
    #[error("a stored secret cannot be opened: {0}")]
    Secret(#[from] SecretError),
    /// There is no access token.
    #[error(transparent)]
    Oauth(#[from] OauthError),
    /// The mail server.
    #[error(transparent)]
    Imap(#[from] ImapError),
    /// Somebody changed the account meanwhile.
    #[error("the account was changed meanwhile")]
    Changed,
    /// The database, or another part of this service.
    #[error("{0}")]
    Internal(String),
}

impl From<DbErr> for MailboxError {
    fn from(error: DbErr) -> Self {
        if matches!(error, DbErr::RecordNotUpdated) {
            return Self::Changed;
        }
        tracing::error!(%error, "the database failed a mailbox");
        Self::Internal("the database failed".into())
    }
}

impl MailboxError {
    /// A stable word for the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Incomplete(_) => "incomplete",
            Self::Secret(_) => "secret",
            Self::Oauth(OauthError::Temporary(_)) => "token_unavailable",
            Self::Oauth(OauthError::InvalidGrant(_)) => "invalid_grant",
            Self::Oauth(OauthError::Rejected(_)) => "token_refused",
            Self::Imap(error) => error.code(),
            Self::Changed => "changed",
            Self::Internal(_) => "internal",
        }
    }

    /// Whether trying soon is pointless, because only a change of the configuration or the mailbox can help.
    pub fn needs_administrator(&self) -> bool {
        match self {
            Self::Incomplete(_) | Self::Secret(_) => true,
            Self::Oauth(error) => !error.is_temporary(),
            Self::Imap(error) => error.needs_administrator(),
            Self::Changed | Self::Internal(_) => false,
        }
    }
}

/// Where the mailbox is.
///
/// # Errors
/// When the host is missing, or the configured certificate authorities cannot be read.
pub fn endpoint(app: &App, inbound: &Inbound) -> Result<Endpoint, MailboxError> {
    if inbound.host.is_empty() {
        return Err(MailboxError::Incomplete("there is no host"));
    }
    Ok(Endpoint {
        host: inbound.host.clone(),
        port: inbound.port,
        security: match inbound.security {
            InboundSecurity::Tls => Security::Tls,
            InboundSecurity::Starttls => Security::Starttls,
            InboundSecurity::None => Security::None,
        },
        allow_plaintext: inbound.allow_plaintext || app.config.mail.allow_plaintext,
        trust: app.trust().map_err(|error| MailboxError::Internal(format!("{error:#}")))?,
    })
}

/// The longest waits, from the configuration.
pub fn timeouts(app: &App) -> Timeouts {
    let connect = Duration::from_secs(app.config.mail.connect_timeout_s);
    let read = Duration::from_secs(app.config.mail.read_timeout_s);
    let net = Deadlines { resolve: connect, connect, handshake: connect };
    Timeouts { net, stall: read, command: read, transfer: TRANSFER.max(read) }
}

/// How we log in; with XOAUTH2 a token is fetched, and a rotated refresh token is stored before it is used.
///
/// # Errors
/// When a secret is missing or the token server gives no token.
pub async fn credentials(app: &App, row: &account::Model) -> Result<Credentials, MailboxError> {
    if row.username.is_empty() {
        return Err(MailboxError::Incomplete("there is no user name"));
    }
    let user = row.username.clone();
    match Inbound::of(&row.inbound).auth {
        InboundAuth::Password => {
            let sealed =
                row.password_sealed.as_ref().ok_or(MailboxError::Incomplete("there is no password"))?;
            let pass = app.sealer.open_text(&password_purpose(row.id), sealed)?.to_string();
            Ok(Credentials::Login { user, pass })
        }
        InboundAuth::Xoauth2 => Ok(Credentials::XOauth2 { user, token: access_token(app, row).await? }),
    }
}

async fn access_token(app: &App, row: &account::Model) -> Result<String, MailboxError> {
    let oauth = oauth_of(row).ok_or(MailboxError::Incomplete("there are no OAuth settings"))?;
    let secrets = Secrets::open(&app.sealer, row)?;
    let grant = match oauth.grant {
        OauthGrant::ClientCredentials => Grant::ClientCredentials,
        OauthGrant::RefreshToken => Grant::RefreshToken(
            secrets.refresh_token.clone().ok_or(MailboxError::Incomplete("there is no refresh token"))?,
        ),
    };
    let request = TokenRequest {
        token_url: oauth.token_url,
        client_id: oauth.client_id,
        client_secret: secrets.client_secret.clone(),
        scope: (!oauth.scope.is_empty()).then_some(oauth.scope),
        grant,
    };
    let trust = app.trust().map_err(|error| MailboxError::Internal(format!("{error:#}")))?;
    let Token { access_token, rotated_refresh_token, .. } = fetch_token(&request, &trust, TOKEN).await?;
    if let Some(new) = rotated_refresh_token {
        save_rotated(app, row, Secrets { refresh_token: Some(new), ..secrets }).await?;
    }
    Ok(access_token)
}

/// The old token may be dead already: the new one is on disk before anything else happens.
async fn save_rotated(app: &App, row: &account::Model, secrets: Secrets) -> Result<(), MailboxError> {
    let sealed = secrets.seal(&app.sealer, row.id)?;
    let change = account::ActiveModel { oauth_sealed: Set(sealed), ..Default::default() };
    let tx = app.db.begin().await?;
    // An administrator who authorised the account anew in the meantime has the last word.
    let guarded = account::Entity::update_many()
        .set(change)
        .filter(account::Column::Id.eq(row.id))
        .filter(account::Column::OauthSealed.eq(row.oauth_sealed.clone()));
    if guarded.exec(&*tx).await?.rows_affected != 1 {
        return Err(MailboxError::Changed);
    }
    tx.commit().await?;
    Ok(())
}
