//! One of each thing that goes out, under the ids and names that the examples of the API's document name, so that Swagger UI
//! runs them as they stand.

use anyhow::Context;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Client, id};
use crate::app::App;

/// The id that the document's examples name.
pub const FIRST: Uuid = Uuid::from_u128(0x019a_a1b2_0000_7000_8000_0000_0000_0001);
/// The second one, where an example names two things of a kind.
const SECOND: Uuid = Uuid::from_u128(0x019a_a1b2_0000_7000_8000_0000_0000_0002);
/// What the API calls an outcome of the examples.
const NO_ANSWER: &str = "no_answer";

/// Makes the samples, once the account has its id.
pub async fn make(app: &App, admin: &Client) -> anyhow::Result<()> {
    let sample = Sample { app, admin };
    let outcome = json!({ "code": NO_ANSWER, "category": "non_contact", "name": "No answer" });
    sample.make("/outcomes", outcome, "outcomes", FIRST).await?;
    let campaign =
        json!({ "name": "Sample campaign", "description": "For the examples", "email_account_id": FIRST });
    sample.make("/campaigns", campaign, "campaigns", FIRST).await?;
    let list = json!({ "name": "Sample list", "campaign_id": FIRST });
    sample.make("/lists", list, "customer_lists", FIRST).await?;
    let customer = json!({
        "list_id": FIRST, "ref": "C-4711", "name": "Anna Example", "email": "anna@example.org", "locale": "en-GB",
        "data": { "contract": "Premium", "balance": 12.5 },
    });
    sample.make("/customers", customer, "customers", FIRST).await?;
    sample.templates().await?;
    let broadcast = json!({
        "name": "Sample broadcast", "target": { "list_id": FIRST }, "template_id": SECOND, "account_id": FIRST,
        "scheduled_at": "2099-01-01T09:00:00Z",
    });
    sample.make("/broadcasts", broadcast, "broadcasts", FIRST).await?;
    let suppression =
        json!({ "address": "gone@example.org", "reason": "manual", "note": "For the examples" });
    sample.make("/suppressions", suppression, "suppressions", FIRST).await?;
    sample.make(&format!("/lists/{FIRST}/imports"), json!({ "format": "ndjson" }), "imports", FIRST).await?;
    sample.message().await
}

struct Sample<'a> {
    app: &'a App,
    admin: &'a Client,
}

impl Sample<'_> {
    /// Makes one through the API and gives it this id, which the API leaves to nobody.
    async fn make(&self, path: &str, body: Value, table: &str, to: Uuid) -> anyhow::Result<()> {
        let made = self.admin.post(path, &body).await?;
        rename(self.app, &[(table, "id")], id(&made)?.parse()?, to).await
    }

    /// A draft with a file, and a published one for the broadcast.
    async fn templates(&self) -> anyhow::Result<()> {
        let partial = json!({ "name": "sample", "text": "Paper Lantern, 12 Harbour Street" });
        self.make("/template-partials", partial, "template_partials", FIRST).await?;
        let draft = json!({
            "name": "Sample draft", "subject": "Your balance", "text": "Dear {{ to.name }}, you owe {{ balance }}.",
            "html": "<p>You owe {{ balance }}.</p>",
            "fields": [{ "name": "balance", "type": "number", "source": "customer.data.balance", "default": 0 }],
        });
        self.make("/templates", draft, "templates", FIRST).await?;
        let file = self.upload("terms.txt").await?;
        let path = format!("/templates/{FIRST}/attachments");
        let attached = self.admin.post(&path, &json!({ "upload_id": file })).await?;
        rename(self.app, &[("template_files", "id")], id(&attached)?.parse()?, FIRST).await?;
        let sql = "UPDATE templates SET attachments = replace(attachments, $1, $2)";
        self.run(sql, [id(&attached)?.into(), FIRST.to_string().into()]).await?;
        rename(self.app, &[("uploads", "id")], self.upload("logo.png").await?.parse()?, FIRST).await?;
        let offer = json!({
            "name": "Sample offer", "subject": "An offer for {{ customer.name }}",
            "text": "Dear {{ customer.name }}, lanterns are cheaper this week.",
            "variants": [{ "locale": "de", "subject": "Ein Angebot für {{ customer.name }}", "text": "Guten Tag {{ customer.name }}." }],
        });
        self.make("/templates", offer, "templates", SECOND).await?;
        let file = self.upload("autumn-offer.txt").await?;
        let path = format!("/templates/{SECOND}/attachments");
        self.admin.post(&path, &json!({ "upload_id": file })).await?;
        self.admin.act(&format!("/templates/{SECOND}/publish")).await?;
        Ok(())
    }

    async fn upload(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/uploads?filename={name}");
        let made = self.admin.file(&path, b"What is in it does not matter.".to_vec()).await?;
        Ok(id(&made)?.to_owned())
    }

    /// A message that is to be sent much later, so that it can still be called off.
    async fn message(&self) -> anyhow::Result<()> {
        let at = self.app.clock.now().plus_s(30 * 24 * 3600);
        let message = json!({
            "customer_id": FIRST, "template_id": SECOND, "send_at": at, "external_ref": "sample",
        });
        let made = self.admin.post("/messages", &message).await?;
        let tables = [
            ("messages", "id"),
            ("raw_messages", "message_id"),
            ("deliveries", "message_id"),
            ("delivery_steps", "message_id"),
            ("conversations", "last_message_id"),
        ];
        rename(self.app, &tables, id(&made)?.parse()?, FIRST).await
    }

    async fn run(&self, sql: &str, values: [sea_orm::Value; 2]) -> anyhow::Result<()> {
        let tx = self.app.db.begin().await?;
        tx.execute_raw(Statement::from_sql_and_values(self.app.db.backend(), sql, values)).await?;
        Ok(tx.commit().await?)
    }
}

/// Gives a row another id, wherever it is named: in these columns, and in the events that tell of it.
pub async fn rename(app: &App, places: &[(&str, &str)], from: Uuid, to: Uuid) -> anyhow::Result<()> {
    let backend = app.db.backend();
    let tx = app.db.begin().await?;
    // Until the commit, one row may name another by an id that is still to come.
    tx.execute_unprepared("PRAGMA defer_foreign_keys = ON").await?;
    let events = [("events", "subject_id")];
    for (number, (table, column)) in places.iter().chain(&events).enumerate() {
        let sql = format!("UPDATE {table} SET {column} = $1 WHERE {column} = $2");
        let done =
            tx.execute_raw(Statement::from_sql_and_values(backend, sql, [to.into(), from.into()])).await?;
        anyhow::ensure!(number > 0 || done.rows_affected() == 1, "there is no {from} in {table}");
    }
    let sql = "UPDATE events SET data = replace(data, $1, $2) WHERE data LIKE '%' || $1 || '%'";
    let values = [from.to_string().into(), to.to_string().into()];
    tx.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    tx.commit().await.context("a sample cannot have its id")
}
