//! Messages one after the other over one connection, each in two steps: the relay is offered a message, and only then the
//! caller notes that it may have been sent and the text goes out.
//!
//! Where the relay takes commands together (PIPELINING, RFC 2920 §3.1), a text and its dot go out with the next
//! message's MAIL, RCPT and DATA in one write: one round trip a message.

use super::SmtpError;
use super::connection::{Connection, State};
use super::dots;
use super::envelope::Envelope;
use super::reply::Reply;
use super::send::{Outcome, RecipientReply, all_refused, how, interrupted, last_words, refusal};
use super::transcript::Verb;

/// A text is written in blocks of this many bytes, each with its own deadline.
const BLOCK: usize = 64 * 1024;

/// A message as it is offered: who sends it to whom, and its bytes.
pub type Letter<'a> = (&'a Envelope, &'a [u8]);

/// What the relay said to a message that was offered.
#[derive(Debug)]
pub struct Offer {
    /// What became of the message; none when the relay waits for its text.
    pub outcome: Option<Outcome>,
    /// The answer for each recipient, as far as the conversation came.
    pub recipients: Vec<RecipientReply>,
}

impl Offer {
    fn ended(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), recipients: Vec::new() }
    }
}

impl Connection {
    /// Says MAIL, RCPT and DATA. When the relay waits for the text, the connection is good for [`Self::text`] only: to end
    /// it is the one way to take the offer back.
    pub async fn offer(&mut self, letter: Letter<'_>) -> Offer {
        self.forget_steps();
        if !self.extensions.pipelining {
            return self.offer_in_steps(letter).await;
        }
        match self.offering(letter) {
            Ok(lines) => match self.say(&lines).await {
                Ok(()) => self.offered(letter.0).await,
                Err(error) => Offer::ended(self.unheard(error)),
            },
            Err(outcome) => Offer::ended(outcome),
        }
    }

    /// Sends the text of the message that was offered last, with its dot, and offers the next one.
    pub async fn text(&mut self, raw: &[u8], next: Option<Letter<'_>>) -> (Outcome, Option<Offer>) {
        self.forget_steps();
        let together = next.filter(|_| self.extensions.pipelining).map(|next| self.offering(next));
        let mut wire = dots::encode(raw);
        wire.extend_from_slice(b".\r\n");
        let dot = wire.len();
        if let Some(Ok(lines)) = &together {
            wire.extend_from_slice(lines.as_bytes());
        }
        let outcome = self.hand_over(&wire, dot).await;
        let Some(next) = next else { return (outcome, None) };
        let offer = match together {
            Some(Err(refused)) => Offer::ended(refused),
            _ if self.state == State::Unusable => Offer::ended(Outcome::Stale),
            Some(Ok(_)) => self.offered(next.0).await,
            None => self.offer(next).await,
        };
        (outcome, Some(offer))
    }

    /// Nobody reads what was said about other messages, and memory must not grow with their number.
    fn forget_steps(&mut self) {
        drop(self.take_steps());
    }

    async fn offer_in_steps(&mut self, (envelope, raw): Letter<'_>) -> Offer {
        let mut transaction = match self.begin(envelope, raw).await {
            Ok(transaction) => transaction,
            Err(refused) => {
                let (outcome, recipients) = *refused;
                return Offer { outcome: Some(outcome), recipients };
            }
        };
        let recipients = transaction.recipients().to_vec();
        let outcome = transaction.ask().await.err();
        if outcome.is_none() {
            self.state = State::Unusable;
        }
        Offer { outcome, recipients }
    }

    /// MAIL, RCPT and DATA for one write, or why the relay cannot take this message at all.
    fn offering(&self, (envelope, raw): Letter<'_>) -> Result<String, Outcome> {
        let mut lines = self.mail_line(envelope, raw)? + "\r\n";
        for address in envelope.to() {
            lines.push_str("RCPT TO:<");
            lines.push_str(address);
            lines.push_str(">\r\n");
        }
        lines.push_str("DATA\r\n");
        Ok(lines)
    }

    async fn say(&mut self, lines: &str) -> Result<(), SmtpError> {
        self.make_ready().await?;
        let limit = self.timeouts.mail;
        self.state = State::Unusable;
        self.write(Verb::Mail, lines.as_bytes(), limit).await
    }

    /// Reads the answers to MAIL, each RCPT and DATA.
    async fn offered(&mut self, envelope: &Envelope) -> Offer {
        // Until every answer is read, the connection is good for nothing else.
        self.state = State::Unusable;
        let limit = self.timeouts.mail;
        let mail = match self.answer(Verb::Mail, limit).await {
            Ok(reply) if reply.is_closing() => return Offer::ended(self.refused_at_once(reply)),
            Ok(reply) => reply,
            Err(error) => return Offer::ended(self.unheard(error)),
        };
        let refused = (!mail.is_positive()).then(|| self.refused_at_once(mail));
        self.messages += 1;
        let mut recipients = Vec::with_capacity(envelope.to().len());
        let answers = self.answers(envelope, &mut recipients).await;
        if refused.is_some() {
            // "503 need MAIL command" says nothing of a recipient.
            recipients.clear();
        }
        let outcome = match (refused, answers) {
            (refused, Ok(data)) => self.concluded(refused.or_else(|| all_refused(&recipients)), data).await,
            (Some(refused), Err(Outcome::Interrupted { .. })) => Some(refused),
            (_, Err(outcome)) => Some(outcome),
        };
        Offer { outcome, recipients }
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

    /// What follows from the answer to DATA, when the answers before it say `refused`; nothing when the relay waits for the
    /// text.
    async fn concluded(&mut self, refused: Option<Outcome>, data: Reply) -> Option<Outcome> {
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

    /// Writes a text, its dot, which ends at the byte `dot`, and what comes after it, and reads the answer that decides.
    async fn hand_over(&mut self, wire: &[u8], dot: usize) -> Outcome {
        self.state = State::Unusable;
        let block = self.timeouts.block;
        let mut written = 0;
        for part in wire.chunks(BLOCK) {
            written += part.len();
            match self.write(Verb::Data, part, block).await {
                Ok(()) => {}
                Err(error) if written < dot => return last_words(self, error).await,
                // Even a failed write may have carried the dot to the relay.
                Err(error) => return Outcome::Uncertain { how: how(error) },
            }
        }
        self.decision().await
    }
}
