//! Where a recipient says that they want no more: the link in a mail and the header fields that offer it.

use url::Url;

use crate::{
    app::App,
    id::MessageId,
    mail::unsubscribe::{UnsubscribeError, UnsubscribeTokens, header_fields},
};

/// Makes the links of this installation, and reads them.
#[derive(Clone, Debug)]
pub struct Links {
    tokens: UnsubscribeTokens,
    base: String,
}

impl Links {
    /// Those of this installation, at its public address.
    pub fn of(app: &App) -> Self {
        let tokens = UnsubscribeTokens::new(&app.sealer.derive("unsubscribe-link"));
        Self { tokens, base: app.config.public_url() }
    }

    /// The link of one message.
    pub fn url(&self, id: MessageId) -> String {
        format!("{}/u/{}", self.base, self.tokens.token(id.uuid()))
    }

    /// The header fields that offer the link of one message (RFC 2369, RFC 8058).
    ///
    /// # Errors
    /// When the public address is not one that receivers accept there.
    pub fn fields(&self, id: MessageId) -> Result<[(String, String); 2], UnsubscribeError> {
        let link = Url::parse(&self.url(id)).map_err(|_| UnsubscribeError::NotHttps)?;
        Ok(header_fields(&link, None)?.map(|(name, value)| (name.to_owned(), value)))
    }

    /// The message of a genuine link's token.
    pub fn read(&self, token: &str) -> Option<MessageId> {
        self.tokens.read(token).map(MessageId)
    }
}
