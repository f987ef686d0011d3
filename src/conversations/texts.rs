//! Texts: the gateway's mail for one, how much it takes, and the conversation that goes on with a number.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement, Value,
};
use uuid::Uuid;

use super::entity::{ConversationState, conversation};
use crate::{
    accounts::{entity::account, sms::SmsSettings},
    clock::Timestamp,
    id::{AccountId, ConversationId},
    mail::{
        address::{AddressError, Mailbox},
        compose::{ComposeError, Outgoing},
        number::Number,
        sms::segments::{Segments, measure},
    },
};

/// The mail to the account's gateway that has a text sent, whose only recipient's address is a number.
///
/// # Errors
/// When the recipient is no number, or the account's destination makes no address of it.
pub fn for_gateway(account: &account::Model, text: &Outgoing) -> Result<Outgoing, ComposeError> {
    let settings = SmsSettings::of(account);
    let settings = settings.ok_or_else(|| ComposeError::Builder("the account has no gateway".to_owned()))?;
    let to = text.to.first().ok_or(ComposeError::NoRecipients)?;
    let wrong = |source| ComposeError::InvalidAddress { field: "to", address: to.address.clone(), source };
    let number = Number::parse(&to.address).map_err(|_| wrong(AddressError::Form))?;
    let addressed = settings.route().to(&number).map_err(wrong)?;
    let body = match addressed.first_line {
        Some(line) => format!("{line}\n{}", text.text),
        None => text.text.clone(),
    };
    Ok(Outgoing {
        to: vec![Mailbox::new(None, addressed.to.as_str())],
        cc: Vec::new(),
        bcc: Vec::new(),
        subject: addressed.subject,
        text: body,
        html: None,
        attachments: Vec::new(),
        ..text.clone()
    })
}

/// What a text takes, and why the account does not send it, if it takes too much.
///
/// # Errors
/// A sentence.
pub fn segments(account: &account::Model, text: &str) -> Result<Segments, String> {
    let segments = measure(text.trim_end());
    let most = SmsSettings::of(account).map_or(1, |settings| settings.max_segments);
    if segments.segments <= usize::from(most) {
        return Ok(segments);
    }
    let because = segments.first_not_gsm.map(|c| format!(" (\"{c}\" is not in the GSM alphabet)"));
    Err(format!(
        "the text takes {} segments{}, the account sends at most {most}",
        segments.segments,
        because.unwrap_or_default()
    ))
}

/// The newest conversation over the account with each of these numbers.
///
/// # Errors
/// Whatever the database says.
pub async fn newest_of(
    db: &impl ConnectionTrait,
    account: AccountId,
    numbers: &[&str],
) -> Result<HashMap<String, ConversationId>, DbErr> {
    let mut newest = HashMap::new();
    for numbers in numbers.chunks(500) {
        let rows: Vec<String> = (0..numbers.len()).map(|row| format!("(${})", row + 2)).collect();
        let sql = format!(
            "WITH wanted (number) AS (VALUES {}) SELECT number, (SELECT id FROM conversations \
             WHERE customer_address = number AND account_id = $1 ORDER BY last_message_at DESC, id DESC LIMIT 1) FROM wanted",
            rows.join(", ")
        );
        let values =
            std::iter::once(Value::from(account.uuid())).chain(numbers.iter().map(|one| Value::from(*one)));
        let found = Statement::from_sql_and_values(db.get_database_backend(), sql, values);
        for row in db.query_all_raw(found).await? {
            let id: Option<Uuid> = row.try_get_by_index(1)?;
            if let Some(id) = id {
                newest.insert(row.try_get_by_index(0)?, ConversationId(id));
            }
        }
    }
    Ok(newest)
}

/// The conversation over the account that goes on with the number: the newest, unless it was closed too long ago.
///
/// # Errors
/// Whatever the database says.
pub async fn goes_on_with(
    db: &impl ConnectionTrait,
    account: &account::Model,
    number: &str,
    now: Timestamp,
) -> Result<Option<ConversationId>, DbErr> {
    let Some(settings) = SmsSettings::of(account) else { return Ok(None) };
    let since = settings.reopened_since(now);
    let newest = conversation::Entity::find()
        .filter(conversation::Column::CustomerAddress.eq(number))
        .filter(conversation::Column::AccountId.eq(account.id))
        .order_by_desc(conversation::Column::LastMessageAt)
        .order_by_desc(conversation::Column::Id)
        .limit(1)
        .one(db)
        .await?;
    Ok(newest.filter(|row| goes_on(row, since)).map(|row| row.id))
}

/// Whether a number's conversation goes on with its next text; a closed one does when its last message is not older.
pub fn goes_on(row: &conversation::Model, since: Timestamp) -> bool {
    row.state != ConversationState::Closed || row.last_message_at >= since
}
