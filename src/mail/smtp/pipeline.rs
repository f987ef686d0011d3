//! Handing over a message whose phase is durable before it begins: commands together where the relay takes them so
//! (PIPELINING, RFC 2920), and the text and its dot in one write.

use super::SmtpError;
use super::connection::{Connection, State};
use super::dots;
use super::envelope::Envelope;
use super::reply::Reply;
use super::send::{Outcome, RecipientReply, SendReport, all_refused, how, interrupted, last_words, refusal};
use super::transcript::Verb;

/// A text is written in blocks of this many bytes, each with its own deadline; the last one carries the dot.
const BLOCK: usize = 64 * 1024;

/// What the relay said to the commands before the text.
struct Said {
    outcome: Option<Outcome>,
    recipients: Vec<RecipientReply>,
}

impl Connection {
    /// Sends a whole message that may be lost but never doubled: whoever calls this has noted already that it may have
    /// been sent. It takes two round trips where the relay offers PIPELINING.
    pub async fn hand_over(&mut self, envelope: &Envelope, raw: &[u8]) -> SendReport {
        let (outcome, recipients) = self.hand_over_through(envelope, raw).await;
        SendReport { outcome, recipients, steps: self.take_steps() }
    }

    async fn hand_over_through(&mut self, envelope: &Envelope, raw: &[u8]) -> (Outcome, Vec<RecipientReply>) {
        if !self.extensions.pipelining {
            return match self.begin(envelope, raw).await {
                Ok(mut transaction) => {
                    let recipients = transaction.recipients().to_vec();
                    match transaction.ask().await {
                        Ok(()) => (self.text(raw).await, recipients),
                        Err(outcome) => (outcome, recipients),
                    }
                }
                Err(refused) => *refused,
            };
        }
        let Said { outcome, recipients } = self.commands(envelope, raw).await;
        match outcome {
            Some(outcome) => (outcome, recipients),
            None => (self.text(raw).await, recipients),
        }
    }

    /// MAIL, RCPT and DATA in one write, and the answers to them.
    async fn commands(&mut self, envelope: &Envelope, raw: &[u8]) -> Said {
        let stop = |outcome| Said { outcome: Some(outcome), recipients: Vec::new() };
        let mut lines = match self.mail_line(envelope, raw) {
            Ok(line) => line + "\r\n",
            Err(outcome) => return stop(outcome),
        };
        for address in envelope.to() {
            lines.push_str("RCPT TO:<");
            lines.push_str(address);
            lines.push_str(">\r\n");
        }
        lines.push_str("DATA\r\n");
        let used = self.messages > 0;
        let said = self.first_of(&lines).await;
        self.messages += 1;
        let mail = match said {
            Ok(reply) if reply.is_closing() && used => return stop(Outcome::Stale),
            Ok(reply) => reply,
            Err(SmtpError::Closed { .. }) if used => return stop(Outcome::Stale),
            Err(error) => return stop(interrupted(Verb::Mail, error)),
        };
        if mail.is_closing() {
            return stop(refusal(Verb::Mail, mail));
        }
        let mut recipients = Vec::with_capacity(envelope.to().len());
        let answered = self.answers(envelope, &mut recipients).await;
        let outcome = match answered {
            Ok(data) => self.concluded(mail, &recipients, data).await,
            Err(outcome) => Some(outcome),
        };
        Said { outcome, recipients }
    }

    async fn first_of(&mut self, lines: &str) -> Result<Reply, SmtpError> {
        if !self.is_usable() {
            let reason = "it was not usable any more".to_owned();
            return Err(SmtpError::Closed { at: Verb::Mail, reason });
        }
        if self.state == State::Begun {
            self.reset().await?;
        }
        let limit = self.timeouts.mail;
        // Until every answer is read, the connection is good for nothing else.
        self.state = State::Unusable;
        self.write(Verb::Mail, lines.as_bytes(), limit).await?;
        self.answer(Verb::Mail, limit).await
    }

    /// The answers to each RCPT and to DATA; the latter is given.
    async fn answers(
        &mut self,
        envelope: &Envelope,
        recipients: &mut Vec<RecipientReply>,
    ) -> Result<Reply, Outcome> {
        for address in envelope.to() {
            let limit = self.timeouts.rcpt;
            let reply =
                self.answer(Verb::Rcpt, limit).await.map_err(|error| interrupted(Verb::Rcpt, error))?;
            if reply.is_closing() {
                return Err(Outcome::ServiceClosing { at: Verb::Rcpt, reply });
            }
            recipients.push(RecipientReply { address: address.clone(), reply });
        }
        let limit = self.timeouts.data;
        self.answer(Verb::Data, limit).await.map_err(|error| interrupted(Verb::Data, error))
    }

    /// What follows from the answers; nothing when the relay waits for the text.
    async fn concluded(
        &mut self,
        mail: Reply,
        recipients: &[RecipientReply],
        data: Reply,
    ) -> Option<Outcome> {
        let refused = match mail.is_positive() {
            true => all_refused(recipients),
            false => Some(refusal(Verb::Mail, mail)),
        };
        match (refused, data.code) {
            (None, 354) => None,
            (Some(outcome), 354) => {
                // The relay waits for a text all the same (RFC 2920 section 3.1): an empty one, which it refuses.
                let limit = self.timeouts.dot;
                let refused = match self.write(Verb::Dot, b".\r\n", limit).await {
                    Ok(()) => self.answer(Verb::Dot, limit).await.is_ok_and(|reply| !reply.is_closing()),
                    Err(_) => false,
                };
                if refused {
                    self.state = State::Begun;
                }
                Some(outcome)
            }
            (outcome, _) => {
                if !data.is_closing() {
                    self.state = State::Begun;
                }
                Some(outcome.unwrap_or_else(|| refusal(Verb::Data, data)))
            }
        }
    }

    /// The text with its dot, and the answer that decides.
    async fn text(&mut self, raw: &[u8]) -> Outcome {
        self.state = State::Unusable;
        let mut wire = dots::encode(raw);
        wire.extend_from_slice(b".\r\n");
        let block = self.timeouts.block;
        let last = wire.len().saturating_sub(1) / BLOCK;
        for (number, part) in wire.chunks(BLOCK).enumerate() {
            match self.write(Verb::Data, part, block).await {
                Ok(()) => {}
                Err(error) if number < last => return last_words(self, error).await,
                // Even a failed write may have carried the dot to the relay.
                Err(error) => return Outcome::Uncertain { how: how(error) },
            }
        }
        self.decision().await
    }
}
