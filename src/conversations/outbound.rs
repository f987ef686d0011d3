//! Mail that we write: composed once with its Message-ID and date, then filed and put on its way in one transaction.

use actix_web::HttpResponse;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    sea_query::{Expr, ExprTrait},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{
    entity::{
        Classification, ConversationState, Direction, MessageKind, MessageState, conversation, message,
        raw_message,
    },
    source::raw_problem,
    texts::for_gateway,
};
use crate::{
    accounts::entity::{Channel, account},
    app::App,
    clock::Timestamp,
    delivery::{
        Outbound, enqueue,
        enqueue::{Precedence, enter_sent},
    },
    dkim::signers::Signers,
    events::{self, NewEvent},
    http::{
        Answer, Code, Problem,
        idempotency::{PausedWork, Start, Work},
    },
    id::{CalendarId, ConversationId, MessageId, UserId, WorkItemId},
    instance::instance_id,
    mail::{
        address::{Address, Mailbox},
        classify::LOOP_HEADER,
        compose::{AutoSubmitted, ComposeError, Composed, Outgoing, compose},
        parse::{Limits, parse},
        token::Signer,
    },
};

/// How many rows one insert carries: a message has 45 columns, and SQLite takes 32,766 parameters.
const ROWS_PER_INSERT: usize = 400;

/// A mail to be written: who writes it where, and what it says.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The message's id, which its Message-ID tells.
    pub id: MessageId,
    /// What makes it.
    pub kind: MessageKind,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The work item that it is written on.
    pub work_item_id: Option<WorkItemId>,
    /// The agent who writes it.
    pub author_id: Option<UserId>,
    /// Of its text, what was written now.
    pub new_text: String,
    /// Of its text, what is quoted.
    pub quoted_text: String,
    /// Of its text, the signature.
    pub signature: String,
    /// When it goes out, if not at once: that is its date, whenever it was asked for.
    pub due: Option<Timestamp>,
    /// The mail; its sender, Message-ID, date and loop marker are set by [`Press::print`].
    pub mail: Outgoing,
}

/// A composed mail, ready to be filed.
#[derive(Clone, Debug)]
pub struct Printed {
    /// The row to be; its state is set when it is enqueued.
    pub message: message::Model,
    /// The bytes that go out, the same on every try.
    pub raw: Vec<u8>,
    /// The envelope's sender; empty for automatic answers.
    pub envelope_from: String,
    /// The envelope's recipients, each once.
    pub recipients: Vec<String>,
}

/// What all our mail has in common.
#[derive(Clone, Debug)]
pub struct Press {
    signer: Signer,
    signers: Signers,
    instance: String,
    now: Timestamp,
}

impl Press {
    /// For mail that is written `now`, signed with the keys in force.
    ///
    /// # Errors
    /// Whatever the database says.
    pub async fn of(app: &App, db: &impl ConnectionTrait, now: Timestamp) -> Result<Self, DbErr> {
        let signers = Signers::of(app, db).await?;
        let signer = Signer::new(&app.sealer.derive("message-token"));
        Ok(Self { signer, signers, instance: instance_id(app).await?, now })
    }

    /// Whether the keys that it signs with are still those in force.
    pub fn is_current(&self) -> bool {
        self.signers.is_current()
    }

    /// Composes the mail from the account and signs it. Encodes all attachments: not for the threads that serve requests.
    ///
    /// # Errors
    /// What of the mail cannot be sent.
    pub fn print(&self, account: &account::Model, letter: Letter) -> Result<Printed, ComposeError> {
        let Letter { id, conversation_id, due, mut mail, .. } = letter;
        self.dress(account, id, conversation_id, due.unwrap_or(self.now), &mut mail);
        let composed = self.compose(account, &mail)?;
        // RFC 3834 §3.3: nobody answers to the null path, so no machine's answer can meet another's for ever. What is not an
        // answer has a sender, who learns that it came back.
        let envelope_from = match mail.auto_submitted {
            // A gateway knows us by our sender, and what answers it is no mail.
            Some(AutoSubmitted::AutoReplied) if account.channel == Channel::Email => String::new(),
            _ => self.envelope_sender(account, id),
        };
        let message = self.record(account, Letter { mail, ..letter }, &composed.raw);
        let recipients = composed.recipients.iter().map(ToString::to_string).collect();
        Ok(Printed { message, raw: composed.raw, envelope_from, recipients })
    }

    /// Writes into a mail that goes out at `date` what all of ours has: sender, Message-ID, date, loop marker, and where
    /// answers go.
    pub fn dress(
        &self,
        account: &account::Model,
        id: MessageId,
        conversation_id: ConversationId,
        date: Timestamp,
        mail: &mut Outgoing,
    ) {
        let domain = account.address.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
        mail.from = Some(Mailbox::new(Some(&account.display_name), &account.address));
        mail.message_id = self.signer.message_id(id.uuid(), conversation_id.uuid(), domain);
        mail.date = date.as_millis();
        mail.headers.push((LOOP_HEADER.to_owned(), self.instance.clone()));
        if mail.reply_to.is_empty() && wants(account, "tagged_reply_to") {
            let base = Address::parse(&account.address).ok();
            let tagged = base.and_then(|base| self.signer.reply_address(&base, conversation_id.uuid()));
            mail.reply_to
                .extend(tagged.map(|address| Mailbox::new(Some(&account.display_name), address.to_string())));
        }
    }

    /// Makes the bytes that go out: of a mail itself, of a text the mail to the account's gateway; with the signatures of the
    /// sender's domain (RFC 6376). These bear the mail's date, so that the same mail has the same bytes.
    ///
    /// # Errors
    /// What of it cannot be sent.
    pub fn compose(&self, account: &account::Model, mail: &Outgoing) -> Result<Composed, ComposeError> {
        let composed = match account.channel {
            Channel::Email => compose(mail),
            Channel::Sms => compose(&for_gateway(account, mail)?),
        }?;
        let raw = self.signers.sign(composed.sender.domain(), composed.raw, mail.date.div_euclid(1000))?;
        Ok(Composed { raw, ..composed })
    }

    /// Where a mail comes back to when it cannot be delivered: the account, or an address that tells the mail. The gateway
    /// of an SMS account knows us by the account's.
    pub fn envelope_sender(&self, account: &account::Model, id: MessageId) -> String {
        let tagged = (account.channel == Channel::Email && wants(account, "tagged_bounces"))
            .then(|| Address::parse(&account.address).ok())
            .flatten()
            .and_then(|base| self.signer.bounce_address(&base, id.uuid()));
        tagged.map_or_else(|| account.address.clone(), |address| address.to_string())
    }

    /// The row of a mail that was dressed and composed to these bytes.
    pub fn record(&self, account: &account::Model, letter: Letter, raw: &[u8]) -> message::Model {
        let attachments = parse(raw, &Limits::default()).map(|mail| mail.attachments).unwrap_or_default();
        let mail = letter.mail;
        message::Model {
            id: letter.id,
            conversation_id: letter.conversation_id,
            account_id: account.id,
            work_item_id: letter.work_item_id,
            direction: Direction::Outbound,
            channel: account.channel,
            kind: letter.kind,
            state: MessageState::Queued,
            state_reason: None,
            classification: Classification::Normal,
            message_id_header: Some(mail.message_id),
            in_reply_to: to_json(&mail.in_reply_to.iter().collect::<Vec<_>>()),
            reference_ids: to_json(&mail.references),
            from_name: mail.from.as_ref().and_then(|from| from.name.clone()),
            from_address: mail.from.map(|from| from.address),
            reply_to: to_json(&mail.reply_to),
            to_addresses: to_json(&mail.to),
            cc_addresses: to_json(&mail.cc),
            bcc_addresses: to_json(&mail.bcc),
            subject: mail.subject,
            text: mail.text,
            new_text: letter.new_text,
            quoted_text: letter.quoted_text,
            signature: letter.signature,
            html: mail.html,
            attachments: to_json(&attachments),
            headers: json!({}),
            size_bytes: i64::try_from(raw.len()).unwrap_or(i64::MAX),
            author_id: letter.author_id,
            auto_submitted: mail.auto_submitted.map(|keyword| keyword_of(keyword).to_owned()),
            category: None,
            external_ref: None,
            retry_of: None,
            template_id: None,
            customer_id: None,
            campaign_id: None,
            send_at: None,
            dated_at: Some(Timestamp::from_millis(mail.date)),
            received_at: None,
            sent_at: None,
            erased_at: None,
            version: 1,
            created_at: self.now,
            updated_at: self.now,
        }
    }
}

/// Whether the account has plus-addresses of this kind; its mailbox must take them.
fn wants(account: &account::Model, kind: &str) -> bool {
    account.inbound.get(kind).and_then(Value::as_bool).unwrap_or(false)
}

fn keyword_of(keyword: AutoSubmitted) -> &'static str {
    match keyword {
        AutoSubmitted::AutoReplied => "auto-replied",
        AutoSubmitted::AutoGenerated => "auto-generated",
    }
}

fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A printed mail whose bytes are durable, or are to go into their row.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The row to be.
    pub message: message::Model,
    /// Its bytes.
    pub raw: raw_message::Model,
    /// The envelope's sender.
    pub envelope_from: String,
    /// The envelope's recipients.
    pub recipients: Vec<String>,
    /// When it may go out; at once when there is none.
    pub not_before: Option<Timestamp>,
    /// The calendar that must be open when it goes out; any time will do when there is none.
    pub window: Option<CalendarId>,
    /// Why it may not go out at all.
    pub barred: Option<String>,
}

impl Filed {
    /// The object that holds its bytes, when they are large.
    pub fn object(&self) -> Option<String> {
        self.raw.object_key.clone()
    }
}

/// Composes a mail and makes its bytes durable; `files` is the place in the body of what makes it large.
///
/// # Errors
/// `validation_failed` or `no_recipients` for what cannot be sent.
pub async fn prepare(
    app: &App,
    now: Timestamp,
    account: &account::Model,
    letter: Letter,
    files: &str,
) -> Result<Filed, Problem> {
    let press = Press::of(app, app.db.read(), now).await?;
    let account = account.clone();
    let printed = spawn_blocking(move || press.print(&account, letter)).await;
    let printed = printed.map_err(Problem::internal)?.map_err(|error| problem(&error, files))?;
    let limit = app.config.mail.max_message_bytes;
    if printed.raw.len() > limit {
        let detail = format!("the whole mail has {} bytes, the limit is {limit}", printed.raw.len());
        return Err(Problem::invalid(files, "too_large", detail));
    }
    Ok(Filed {
        raw: app.raw.put(printed.message.id, printed.raw).await.map_err(raw_problem)?,
        message: printed.message,
        envelope_from: printed.envelope_from,
        recipients: printed.recipients,
        not_before: None,
        window: None,
        barred: None,
    })
}

/// What of a mail could not be composed, at its place in the body.
fn problem(error: &ComposeError, files: &str) -> Problem {
    let pointer = |field: &str| match field.split_once('.') {
        Some(("attachments", _)) => files.to_owned(),
        _ => format!("/{field}"),
    };
    match error {
        ComposeError::HeaderInjection { field } => {
            Problem::invalid(pointer(field), "header_injection", error.to_string())
        }
        ComposeError::InvalidAddress { field, .. } => {
            Problem::invalid(pointer(field), "invalid_address", error.to_string())
        }
        ComposeError::NoRecipients => Problem::new(Code::NoRecipients, error.to_string()),
        other => Problem::internal(other),
    }
}

/// Goes on with work that was paused to prepare mails, and commits it with what `file` answers. When nothing is filed,
/// the `objects` that were made durable for it are removed.
///
/// # Errors
/// Those of `file`, and whatever the database says.
pub async fn finish(
    app: &App,
    paused: PausedWork,
    objects: impl IntoIterator<Item = String>,
    file: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Answer, Problem>,
) -> Result<HttpResponse, Problem> {
    // On the heap, because every handler's future would carry it otherwise.
    let done = Box::pin(async {
        let work = match paused.resume(&app.db).await? {
            Start::Replay(answer) => return Ok(Done::Before(answer)),
            Start::Run(work) => work,
        };
        let answer = file(&work.tx).await?;
        Ok::<_, Problem>(Done::Now(work, answer))
    });
    match done.await {
        // Whether a commit that fails took place nobody knows: the bytes stay.
        Ok(Done::Now(work, answer)) => work.commit(answer).await,
        Ok(Done::Before(answer)) => {
            app.raw.drop_objects(objects).await;
            Ok(answer)
        }
        Err(problem) => {
            app.raw.drop_objects(objects).await;
            Err(problem)
        }
    }
}

/// What became of mails before the commit.
enum Done {
    /// Another replica has sent them meanwhile.
    Before(HttpResponse),
    /// They are filed in this transaction, and this is to be said of them.
    Now(Box<Work>, Answer),
}

/// Stores the mails, notes them on their conversations and puts them on their way; gives each one's state.
///
/// The caller holds the conversations' locks. An automatic answer is nothing that an agent must have seen, so it does
/// not become its conversation's last message.
///
/// # Errors
/// Whatever the database says.
pub async fn file(
    app: &App,
    tx: &DatabaseTransaction,
    now: Timestamp,
    mails: Vec<Filed>,
) -> Result<Vec<MessageState>, DbErr> {
    let mut going = Vec::with_capacity(mails.len());
    let mut mails = mails.into_iter().peekable();
    while mails.peek().is_some() {
        // Moved and not cloned: the mails of a batch are large together.
        let (mut messages, mut sources) = (Vec::new(), Vec::new());
        for Filed { message, raw, envelope_from, recipients, not_before, window, barred } in
            mails.by_ref().take(ROWS_PER_INSERT)
        {
            let outbound = Outbound {
                message_id: message.id,
                envelope_from,
                recipients,
                precedence: match message.kind {
                    // What confirms a stop word goes to a number that gets nothing else.
                    MessageKind::Receipt if message.channel == Channel::Sms => Precedence::Answer,
                    MessageKind::Receipt | MessageKind::Direct => Precedence::Triggered,
                    _ => Precedence::Answer,
                },
                // Nobody is to get a text twice (DESIGN rule 2).
                repeatable: message.channel == Channel::Email,
                not_before,
                window,
                barred,
            };
            going.push((Noted::of(&message), outbound));
            messages.push(message.into_active_model());
            sources.push(raw.into_active_model());
        }
        message::Entity::insert_many(messages).exec_without_returning(tx).await?;
        raw_message::Entity::insert_many(sources).exec_without_returning(tx).await?;
    }
    let mut states = Vec::with_capacity(going.len());
    for (noted, outbound) in going {
        note(tx, now, noted).await?;
        states.push(enqueue(app, tx, now, outbound).await?);
    }
    Ok(states)
}

/// When and how a message was sent that is filed only now.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When the server took it.
    pub at: Timestamp,
    /// The server's reply code.
    pub code: Option<i32>,
    /// The server's words.
    pub text: Option<String>,
}

/// Stores a mail that is sent already, and notes it on its conversation.
///
/// # Errors
/// Whatever the database says.
pub async fn file_sent(
    tx: &DatabaseTransaction,
    now: Timestamp,
    mail: Filed,
    sent: Sent,
) -> Result<(), DbErr> {
    let message = message::Model { state: MessageState::Sent, sent_at: Some(sent.at), ..mail.message };
    let noted = Noted::of(&message);
    message::Entity::insert(message.into_active_model()).exec_without_returning(tx).await?;
    raw_message::Entity::insert(mail.raw.into_active_model()).exec_without_returning(tx).await?;
    note(tx, now, noted).await?;
    enter_sent(tx, noted.id, mail.envelope_from, mail.recipients, sent).await
}

/// What of a message is noted on its conversation.
#[derive(Clone, Copy, Debug)]
struct Noted {
    id: MessageId,
    conversation_id: ConversationId,
    kind: MessageKind,
    author_id: Option<UserId>,
}

impl Noted {
    fn of(message: &message::Model) -> Self {
        let message::Model { id, conversation_id, kind, author_id, .. } = *message;
        Self { id, conversation_id, kind, author_id }
    }
}

/// Notes a message that goes out on its conversation.
async fn note(tx: &DatabaseTransaction, now: Timestamp, message: Noted) -> Result<(), DbErr> {
    let mut change = conversation::ActiveModel { updated_at: Set(now), ..Default::default() };
    if message.kind != MessageKind::Receipt {
        change.last_message_id = Set(Some(message.id));
        change.last_message_at = Set(now);
    }
    if message.kind == MessageKind::Reply {
        change.state = Set(ConversationState::WaitingCustomer);
    }
    // Who asks the API for a send is nobody to whom the customer's answer should go first.
    if let Some(author) =
        message.author_id.filter(|_| !matches!(message.kind, MessageKind::Direct | MessageKind::Broadcast))
    {
        change.last_agent_id = Set(Some(author));
    }
    let next = |column: conversation::Column| Expr::col(column).add(1);
    let changed = conversation::Entity::update_many()
        .set(change)
        .col_expr(conversation::Column::MessageCount, next(conversation::Column::MessageCount))
        .col_expr(conversation::Column::Version, next(conversation::Column::Version))
        .filter(conversation::Column::Id.eq(message.conversation_id))
        .exec_with_returning(tx)
        .await?;
    let conversation = changed.into_iter().next().ok_or(DbErr::RecordNotUpdated)?;
    let data = json!({
        "id": conversation.id, "state": conversation.state, "last_message_id": conversation.last_message_id,
    });
    let event = NewEvent::new("conversation.updated", conversation.id.uuid(), &data);
    let event = match conversation.last_agent_id {
        Some(agent) => event.for_agent(agent),
        None => event.for_supervisors(),
    };
    events::append(tx, now, vec![event]).await
}
