//! What templates and expressions read of a customer.

use serde_json::{Value, json};

use super::entity::customer;

/// `customer` in templates and in the expression of a broadcast.
pub fn of(row: &customer::Model) -> Value {
    json!({
        "id": row.id,
        "ref": row.r#ref,
        "name": row.name,
        "email": row.email,
        "sms_number": row.sms_number,
        "locale": row.locale,
        "status": row.status,
        "callback_at": row.callback_at,
        "attempts": row.attempt_count,
        "data": row.data,
    })
}
