//! Who a message goes from and to, checked so that no address can carry a command.

/// The sender and the recipients of one transaction (RFC 5321 §2.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// An address, or a list of them, that MAIL or RCPT cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// No recipient.
    #[error("the message has no recipient")]
    NoRecipient,
    /// Not an address in RFC 5321's sense; the text is not repeated here.
    #[error("an address is empty, too long, has no domain, or holds a character that cannot be sent")]
    Unusable,
}

impl Envelope {
    /// Checks the addresses; `from` is none for the empty reverse path of automatic mail (RFC 3834 §3.3).
    ///
    /// # Errors
    /// [`BadAddress`] when one of them cannot be sent.
    pub fn new(from: Option<String>, to: Vec<String>) -> Result<Self, BadAddress> {
        if to.is_empty() {
            return Err(BadAddress::NoRecipient);
        }
        if from.iter().chain(&to).all(|address| usable(address)) {
            Ok(Self { from, to })
        } else {
            Err(BadAddress::Unusable)
        }
    }

    /// The reverse path; empty for none.
    #[must_use]
    pub fn from(&self) -> &str {
        self.from.as_deref().unwrap_or_default()
    }

    /// The recipients, at least one.
    #[must_use]
    pub fn to(&self) -> &[String] {
        &self.to
    }

    /// Whether an address has characters outside ASCII, so that the relay must offer SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        self.from.iter().chain(&self.to).any(|address| !address.is_ascii())
    }
}

fn usable(address: &str) -> bool {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>');
    let parts = address.rsplit_once('@');
    address.len() <= 320
        && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !address.contains(forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_carry_a_command() {
        let to = |address: &str| Envelope::new(None, vec![address.to_owned()]);
        assert!(to("anna@example.org").is_ok());
        for bad in ["", "anna", "@example.org", "anna@", "a@b>\r\nRCPT TO:<c@d", "a b@c", "a@b\0", "<a@b>"] {
            assert_eq!(to(bad), Err(BadAddress::Unusable), "{bad:?}");
        }
        assert_eq!(Envelope::new(None, Vec::new()), Err(BadAddress::NoRecipient));
    }
}
