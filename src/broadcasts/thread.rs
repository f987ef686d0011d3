//! A recipient's row becomes a message in a conversation, once somebody has a use for it: an answer that belongs to it, or
//! a capturing server's list.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, IntoActiveModel,
    JoinType, QueryFilter, QueryOrder, QuerySelect, SqlErr,
};

use super::{
    entity::{
        BroadcastRecipientState::{self, Bounced, Complained, Delivered, Sent as Taken, Uncertain},
        broadcast, recipient,
    },
    ledger::ERASED,
    print::Printer,
    settings::find,
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::{
        begin,
        entity::conversation,
        outbound::{self, Filed, Sent},
        recipient::Recipient,
    },
    customers::entity::customer,
    db::among,
    events,
    id::{AccountId, ConversationId, MessageId},
    raw::RawError,
};

/// Where a recipient stands who has perhaps got the message.
const REACHED: [BroadcastRecipientState; 5] = [Taken, Delivered, Bounced, Complained, Uncertain];

/// Files the messages of broadcasts that somebody answers to: those of the named conversations that are not there yet.
///
/// # Errors
/// Whatever the database or the object store says.
pub async fn file_answered(app: &App, named: Vec<ConversationId>) -> Result<(), AnswerError> {
    if named.is_empty() {
        return Ok(());
    }
    let ids = named.iter().map(|id| MessageId(id.uuid()));
    let rows = recipient::Entity::find().filter(among(recipient::Column::Id, ids)).all(app.db.read()).await?;
    for row in rows {
        let known =
            conversation::Entity::find_by_id(ConversationId(row.id.uuid())).one(app.db.read()).await?;
        if known.is_some() {
            continue;
        }
        let printer = printer_of(app, &find(app.db.read(), row.broadcast_id).await?).await?;
        let customer = customer::Entity::find_by_id(row.customer_id).one(app.db.read()).await?;
        let Some((printer, customer)) = printer.zip(customer) else { continue };
        let filed = match printer.print(&row, &customer, row.sent_at.unwrap_or(row.updated_at)) {
            Ok(printed) => printer.filed(app, &row, &printed).await?,
            Err(reason) => {
                tracing::warn!(message = %row.id, reason, "a message that is answered cannot be written again");
                continue;
            }
        };
        let (now, tx) = (app.clock.now(), app.db.begin().await?);
        let object = filed.object();
        match file(&tx, now, &printer, &row, filed).await {
            Ok(Filing::Erased) => {
                tx.rollback().await?;
                app.raw.drop_objects(object).await;
            }
            Ok(_) => tx.commit().await?,
            // Another answer to it came at the same moment.
            Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What writes the broadcast's mails; none when something that they are made of is gone. What passes is an error, so that
/// the answer is taken in when it has passed.
async fn printer_of(app: &App, row: &broadcast::Model) -> Result<Option<Printer>, AnswerError> {
    let error = match Printer::of(app, row).await {
        Ok(printer) => return Ok(Some(printer)),
        Err(error) => error,
    };
    let error = match error.downcast::<DbErr>() {
        Ok(error) => return Err(error.into()),
        Err(error) => error,
    };
    let reason = match error.downcast::<RawError>() {
        Ok(error) if error.passes() => return Err(error.into()),
        Ok(error) => error.to_string(),
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!(broadcast = %row.id, reason, "a message that is answered cannot be written again");
    Ok(None)
}

/// Why an answered message could not be filed.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbErr),
    /// The raw bytes could not be stored.
    #[error(transparent)]
    Raw(#[from] RawError),
}

/// What became of a recipient's message that was to be filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filing {
    /// It is in its conversation now.
    Done,
    /// It was already.
    Before,
    /// Its customer was erased since it was written: it is not filed.
    Erased,
}

/// Files the recipient's message and begins its conversation, unless that was done before or they were erased meanwhile.
///
/// # Errors
/// Whatever the database says.
pub async fn file(
    tx: &DatabaseTransaction,
    now: Timestamp,
    printer: &Printer,
    row: &recipient::Model,
    filed: Filed,
) -> Result<Filing, DbErr> {
    let id = ConversationId(row.id.uuid());
    if conversation::Entity::find_by_id(id).one(tx).await?.is_some() {
        return Ok(Filing::Before);
    }
    let current = recipient::Entity::find_by_id(row.id).lock_exclusive().one(tx).await?;
    if current.is_none_or(|current| current.address == ERASED) {
        return Ok(Filing::Erased);
    }
    let to = Recipient { name: Some(row.name.clone()), address: row.address.clone() };
    let begun = begin::with(id, printer.account(), &to, &filed.message.subject, now);
    let event = begin::event(&begun);
    begun.into_active_model().reset_all().insert(tx).await?;
    events::append(tx, now, vec![event]).await?;
    let sent = Sent { at: row.sent_at.unwrap_or(now), code: row.last_code, text: row.last_text.clone() };
    outbound::file_sent(tx, now, filed, sent).await?;
    Ok(Filing::Done)
}

/// The newest message of a broadcast over the account that went to the address with this key, and when.
///
/// # Errors
/// Whatever the database says.
pub async fn latest_to(
    db: &impl ConnectionTrait,
    account: AccountId,
    address_key: &str,
) -> Result<Option<(MessageId, Timestamp)>, DbErr> {
    let to_broadcast = recipient::Entity::belongs_to(broadcast::Entity)
        .from(recipient::Column::BroadcastId)
        .to(broadcast::Column::Id);
    let found: Option<(MessageId, Option<Timestamp>, Timestamp)> = recipient::Entity::find()
        .join(JoinType::InnerJoin, to_broadcast.into())
        .select_only()
        .columns([recipient::Column::Id, recipient::Column::SentAt, recipient::Column::UpdatedAt])
        .filter(broadcast::Column::AccountId.eq(account))
        .filter(recipient::Column::AddressKey.eq(address_key))
        .filter(recipient::Column::State.is_in(REACHED))
        .order_by_desc(recipient::Column::SentAt)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    Ok(found.map(|(id, sent_at, updated_at)| (id, sent_at.unwrap_or(updated_at))))
}
