//! What follows from the server's words: the state of each recipient and of the message, and when it is tried again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    clock::Timestamp,
    conversations::entity::MessageState,
    mail::smtp::{Outcome, RecipientReply, Reply, Verb},
    outgoing::settings::RetryPolicy,
};

/// The most of a server's words that is kept, in characters.
const MAX_WORDS: usize = 1000;

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// Not tried yet.
    Pending,
    /// The server took the message for it.
    Sent,
    /// Refused for now, to be tried again.
    Deferred,
    /// Refused for good.
    Failed,
    /// The answer to the final dot was lost.
    Uncertain,
}

/// One recipient of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recipient {
    /// The address.
    #[schema(examples("anna@example.com"))]
    pub address: String,
    /// Where it stands.
    pub state: RecipientState,
    /// The last SMTP reply code for it.
    pub code: Option<u16>,
    /// The server's last words for it.
    pub text: Option<String>,
}

impl Recipient {
    /// One that was not tried yet.
    pub fn new(address: String) -> Self {
        Self { address, state: RecipientState::Pending, code: None, text: None }
    }

    /// Whether it still has to get the message, as far as is known.
    pub fn is_open(&self) -> bool {
        match self.state {
            RecipientState::Pending | RecipientState::Deferred => true,
            RecipientState::Sent | RecipientState::Failed => false,
            // Refused for good when the message was sent again.
            RecipientState::Uncertain => self.code.is_none_or(|code| code < 500),
        }
    }

    /// Whether nobody knows if it got the message.
    pub fn is_uncertain(&self) -> bool {
        self.state == RecipientState::Uncertain
    }

    /// The answer to the final dot was lost.
    pub fn lose(&mut self) {
        self.set(RecipientState::Uncertain, None);
    }

    /// Whether a server took the message for it.
    pub fn has_it(&self) -> bool {
        self.state == RecipientState::Sent
    }

    fn set(&mut self, state: RecipientState, reply: Option<&Reply>) {
        self.state = state;
        self.code = reply.map(|reply| reply.code);
        self.text = reply.map(words);
    }
}

/// A reply's code and text, cut to a length that can be kept.
pub fn words(reply: &Reply) -> String {
    cut(&reply.to_string())
}

/// Text cut to a length that can be kept.
pub fn cut(text: &str) -> String {
    text.chars().take(MAX_WORDS).collect()
}

/// What a try means for the server as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It answers.
    Fine,
    /// Nothing is known.
    None,
    /// It is busy or away: ask it later.
    Slow(String),
    /// It needs an administrator.
    Pause(String),
}

/// What became of a message by one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The message's new state; none when it goes back to the state it was claimed in.
    pub state: Option<MessageState>,
    /// Why, in plain words.
    pub reason: String,
    /// When it is tried next.
    pub due_at: Option<Timestamp>,
    /// Whether the message used up a try.
    pub counts: bool,
    /// Its recipients.
    pub recipients: Vec<Recipient>,
    /// The reply that decided.
    pub reply: Option<Reply>,
    /// What it means for the server.
    pub effect: Effect,
}

/// What is known of a message before a try.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Its recipients.
    pub recipients: &'a [Recipient],
    /// How many tries it used up.
    pub tries: i64,
    /// Whether it may be sent twice.
    pub repeatable: bool,
    /// When it was due.
    pub due_at: Timestamp,
    /// When it is given up.
    pub expires_at: Timestamp,
    /// The reply code of the try before.
    pub last_code: Option<i32>,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// Between 0 and 1: spreads the pauses.
    pub jitter: f64,
}

impl Case<'_> {
    /// Decides what follows from `outcome`; `replies` are the answers to RCPT.
    pub fn judge(&self, outcome: &Outcome, replies: &[RecipientReply], now: Timestamp) -> Verdict {
        let mut recipients = self.recipients.to_vec();
        match outcome {
            Outcome::ServiceClosing { reply, .. } => return self.slowed(outcome, reply, now),
            Outcome::Stale | Outcome::Withheld { .. } => {
                return Verdict { effect: Effect::None, ..self.untouched(outcome.to_string(), self.due_at) };
            }
            Outcome::Failed { at: Verb::Mail, reply } if wants_login(reply) => {
                let reason = format!("the server wants another login: {}", words(reply));
                let effect = Effect::Pause(reason.clone());
                return Verdict { effect, reply: Some(reply.clone()), ..self.untouched(reason, self.due_at) };
            }
            _ => {}
        }
        for recipient in recipients.iter_mut().filter(|recipient| recipient.is_open()) {
            let said = replies.iter().find(|said| said.address == recipient.address).map(|said| &said.reply);
            mark(recipient, outcome, said);
        }
        self.conclude(outcome, recipients, now)
    }

    /// The message as it was, because the server could not be asked.
    pub fn untouched(&self, reason: String, due_at: Timestamp) -> Verdict {
        Verdict {
            state: None,
            reason,
            due_at: Some(due_at),
            counts: false,
            recipients: self.recipients.to_vec(),
            reply: None,
            effect: Effect::None,
        }
    }

    /// The message could not be tried for a reason of our own: as it was, later, until it is given up.
    pub fn put_off(&self, reason: String, now: Timestamp) -> Verdict {
        if now < self.expires_at {
            return self.untouched(reason, self.next_try(now));
        }
        let state = Some(self.unless_uncertain(MessageState::Expired));
        Verdict { state, due_at: None, ..self.untouched(reason, self.due_at) }
    }

    /// How a message ends that is not sent: one that was perhaps handed over stays uncertain.
    fn unless_uncertain(&self, state: MessageState) -> MessageState {
        let uncertain = self.recipients.iter().any(Recipient::is_uncertain);
        if uncertain { MessageState::Uncertain } else { state }
    }

    /// The message can never be sent, whatever the server says.
    pub fn impossible(&self, reason: String) -> Verdict {
        let mut recipients = self.recipients.to_vec();
        let certain = |recipient: &&mut Recipient| recipient.is_open() && !recipient.is_uncertain();
        for recipient in recipients.iter_mut().filter(certain) {
            recipient.set(RecipientState::Failed, None);
        }
        Verdict {
            state: Some(self.unless_uncertain(MessageState::Failed)),
            due_at: None,
            recipients,
            ..self.untouched(reason, self.due_at)
        }
    }

    /// 421. It burns no try; but a message that gets it twice in a row lets others go first.
    fn slowed(&self, outcome: &Outcome, reply: &Reply, now: Timestamp) -> Verdict {
        let due_at = if self.last_code == Some(421) { now.plus_s(self.retry.first_s) } else { now };
        let reason = cut(&outcome.to_string());
        let effect = Effect::Slow(reason.clone());
        Verdict { reply: Some(reply.clone()), effect, ..self.untouched(reason, due_at) }
    }

    fn conclude(&self, outcome: &Outcome, recipients: Vec<Recipient>, now: Timestamp) -> Verdict {
        let any = |state| recipients.iter().any(|recipient| recipient.state == state);
        let is_over = now >= self.expires_at;
        let uncertain = any(RecipientState::Uncertain);
        let open = recipients.iter().any(Recipient::is_open);
        let next = if uncertain {
            (MessageState::Uncertain, self.repeatable && open && !is_over)
        } else if open && is_over {
            (MessageState::Expired, false)
        } else if open {
            (MessageState::Deferred, true)
        } else if any(RecipientState::Failed) {
            (MessageState::Failed, false)
        } else {
            (MessageState::Sent, false)
        };
        let (state, again) = next;
        Verdict {
            reason: reason(state, again, outcome, &recipients),
            state: Some(state),
            due_at: again.then(|| self.next_try(now)),
            counts: true,
            reply: reply_of(outcome).cloned(),
            effect: if matches!(outcome, Outcome::Interrupted { .. }) { Effect::None } else { Effect::Fine },
            recipients,
        }
    }

    /// Twice the pause after each try, a tenth longer or shorter, and a last try when the time is over.
    fn next_try(&self, now: Timestamp) -> Timestamp {
        let doublings = u32::try_from(self.tries).unwrap_or(u32::MAX).min(30);
        let pause_s = self.retry.first_s.saturating_mul(1 << doublings).min(self.retry.max_interval_s);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "at most a day in milliseconds"
        )]
        let pause_ms = (pause_s as f64 * 1000.0 * (0.9 + 0.2 * self.jitter)) as i64;
        now.plus_ms(pause_ms).min(self.expires_at.max(now.plus_s(1)))
    }
}

/// 530, 534, 535 and 538 at MAIL: our login is wanting, not the message (RFC 4954 §6).
fn wants_login(reply: &Reply) -> bool {
    matches!(reply.code, 530 | 534 | 535 | 538)
}

/// Where a recipient stands after `outcome`, when `said` was the answer to its RCPT.
fn mark(recipient: &mut Recipient, outcome: &Outcome, said: Option<&Reply>) {
    let was_uncertain = recipient.is_uncertain();
    mark_by_this_try(recipient, outcome, said);
    // A try that fails does not tell what became of the one before whose answer was lost.
    if was_uncertain && recipient.state != RecipientState::Sent {
        recipient.state = RecipientState::Uncertain;
    }
}

fn mark_by_this_try(recipient: &mut Recipient, outcome: &Outcome, said: Option<&Reply>) {
    use RecipientState::{Deferred, Failed, Sent};
    match said {
        Some(reply) if reply.is_transient() => return recipient.set(Deferred, Some(reply)),
        Some(reply) if !reply.is_positive() => return recipient.set(Failed, Some(reply)),
        _ => {}
    }
    match outcome {
        Outcome::Accepted { reply } => recipient.set(Sent, Some(reply)),
        Outcome::Deferred { reply, .. } => recipient.set(Deferred, Some(reply)),
        Outcome::Failed { reply, .. } => recipient.set(Failed, Some(reply)),
        Outcome::TooLarge { .. } | Outcome::NotOffered(_) => recipient.set(Failed, None),
        Outcome::Uncertain { .. } => recipient.lose(),
        Outcome::Interrupted { .. } => recipient.set(Deferred, None),
        Outcome::ServiceClosing { .. } | Outcome::Stale | Outcome::Withheld { .. } => {}
    }
}

fn reply_of(outcome: &Outcome) -> Option<&Reply> {
    match outcome {
        Outcome::Accepted { reply }
        | Outcome::Deferred { reply, .. }
        | Outcome::Failed { reply, .. }
        | Outcome::ServiceClosing { reply, .. } => Some(reply),
        _ => None,
    }
}

fn reason(state: MessageState, again: bool, outcome: &Outcome, recipients: &[Recipient]) -> String {
    let of = |wanted| recipients.iter().filter(move |recipient| recipient.state == wanted);
    let sent = of(RecipientState::Sent).count();
    let refused: Vec<String> = of(RecipientState::Failed)
        .chain(of(RecipientState::Deferred))
        .map(|one| format!("{}: {}", one.address, one.text.as_deref().unwrap_or("no answer")))
        .collect();
    let first = match outcome {
        Outcome::Accepted { .. } if sent < recipients.len() => {
            format!("taken for {sent} of {} recipients; {}", recipients.len(), refused.join("; "))
        }
        _ => outcome.to_string(),
    };
    let ending = match state {
        MessageState::Uncertain if !matches!(outcome, Outcome::Uncertain { .. }) => {
            "; an earlier try may have reached the recipient"
        }
        MessageState::Uncertain if again => "; it is sent again, so the recipient may get it twice",
        MessageState::Uncertain => "; it is not sent again, so that nobody gets it twice",
        MessageState::Expired => "; it was tried for too long and is given up",
        _ => "",
    };
    cut(&first) + ending
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::smtp::Interruption;

    fn reply(code: u16) -> Reply {
        Reply { code, enhanced: None, text: "words".into() }
    }

    fn said(address: &str, code: u16) -> RecipientReply {
        RecipientReply { address: address.into(), reply: reply(code) }
    }

    fn recipients() -> Vec<Recipient> {
        ["a@x", "b@x", "c@x"].map(|address| Recipient::new(address.into())).to_vec()
    }

    fn case(recipients: &[Recipient]) -> Case<'_> {
        Case {
            recipients,
            tries: 0,
            repeatable: true,
            due_at: Timestamp::ZERO,
            expires_at: Timestamp::from_millis(1_000_000),
            last_code: None,
            retry: RetryPolicy::default(),
            jitter: 0.5,
        }
    }

    fn states(verdict: &Verdict) -> Vec<RecipientState> {
        verdict.recipients.iter().map(|recipient| recipient.state).collect()
    }

    const NOW: Timestamp = Timestamp::from_millis(500_000);

    #[test]
    fn each_recipient_keeps_its_own_answer_and_only_the_missing_ones_stay_open() {
        use RecipientState::{Deferred, Failed, Sent};
        let (known, accepted) = (recipients(), Outcome::Accepted { reply: reply(250) });
        let replies = [said("a@x", 250), said("b@x", 450), said("c@x", 550)];
        let verdict = case(&known).judge(&accepted, &replies, NOW);
        assert_eq!(states(&verdict), [Sent, Deferred, Failed]);
        assert_eq!((verdict.state, verdict.due_at), (Some(MessageState::Deferred), Some(NOW.plus_s(60))));
        let again = case(&verdict.recipients).judge(&accepted, &[said("b@x", 250)], NOW);
        assert_eq!(states(&again), [Sent, Sent, Failed]);
        assert_eq!((again.state, again.due_at), (Some(MessageState::Failed), None));
        assert!(again.reason.starts_with("taken for 2 of 3 recipients; c@x: 550 words"), "{}", again.reason);
    }

    #[test]
    fn a_message_that_may_not_be_repeated_stays_uncertain_for_good() {
        let known = recipients();
        let lost = Outcome::Uncertain { how: Interruption::Timeout };
        let once = Case { repeatable: false, ..case(&known) }.judge(&lost, &[], NOW);
        assert_eq!((once.state, once.due_at), (Some(MessageState::Uncertain), None));
        let again = case(&known).judge(&lost, &[], NOW);
        assert_eq!((again.state, again.due_at), (Some(MessageState::Uncertain), Some(NOW.plus_s(60))));
    }

    #[test]
    fn a_recipient_who_perhaps_got_the_message_stays_uncertain_until_it_is_sent() {
        let known = recipients();
        let lost = case(&known).judge(&Outcome::Uncertain { how: Interruption::Timeout }, &[], NOW);
        let accepted = Outcome::Accepted { reply: reply(250) };
        let replies = [said("a@x", 250), said("b@x", 450), said("c@x", 550)];
        let again = case(&lost.recipients).judge(&accepted, &replies, NOW);
        use RecipientState::{Sent, Uncertain};
        assert_eq!(states(&again), [Sent, Uncertain, Uncertain]);
        assert_eq!((again.state, again.due_at), (Some(MessageState::Uncertain), Some(NOW.plus_s(60))));
        let open: Vec<bool> = again.recipients.iter().map(Recipient::is_open).collect();
        assert_eq!(open, [false, true, false]);
        let refused = Outcome::Failed { at: Verb::Data, reply: reply(554) };
        let last = case(&again.recipients).judge(&refused, &[said("b@x", 250)], NOW);
        assert_eq!((last.state, last.due_at), (Some(MessageState::Uncertain), None));
        assert_eq!(case(&lost.recipients).impossible("gone".into()).state, Some(MessageState::Uncertain));
        let late = Case { expires_at: NOW, ..case(&lost.recipients) }.put_off("away".into(), NOW);
        assert_eq!((late.state, late.due_at), (Some(MessageState::Uncertain), None));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_a_last_try() {
        let known = recipients();
        let refused = Outcome::Deferred { at: Verb::Mail, reply: reply(451) };
        let after = |tries, expires_at| {
            let expires_at = NOW.plus_s(expires_at);
            Case { tries, expires_at, ..case(&known) }.judge(&refused, &[], NOW)
        };
        assert_eq!(after(0, 100_000).due_at, Some(NOW.plus_s(60)));
        assert_eq!(after(3, 100_000).due_at, Some(NOW.plus_s(480)));
        assert_eq!(after(40, 100_000).due_at, Some(NOW.plus_s(3600)));
        assert_eq!(after(3, 100).due_at, Some(NOW.plus_s(100)));
        assert_eq!((after(3, 0).state, after(3, 0).due_at), (Some(MessageState::Expired), None));
    }

    #[test]
    fn a_busy_server_and_a_refused_login_burn_no_try() {
        let known = recipients();
        let busy =
            case(&known).judge(&Outcome::ServiceClosing { at: Verb::Rcpt, reply: reply(421) }, &[], NOW);
        assert_eq!((busy.state, busy.counts, busy.due_at), (None, false, Some(NOW)));
        assert!(matches!(busy.effect, Effect::Slow(_)));
        let login = case(&known).judge(&Outcome::Failed { at: Verb::Mail, reply: reply(530) }, &[], NOW);
        assert_eq!((login.state, login.counts), (None, false));
        assert!(matches!(login.effect, Effect::Pause(_)));
    }
}
