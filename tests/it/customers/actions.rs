//! What is done with customers.

use serde_json::{Value, json};

use super::{Office, path_of};
use crate::{on_both, support::TestApp};

on_both! {
    async fn a_customer_is_given_up_and_tried_again(app) {
        let office = Office::open(&app).await;
        office.outcome("no_answer", "non_contact").await;
        let path = path_of(&office.customer("1", json!({})).await);
        let act = async |action: &str, body: Value| office.supervisor.post(&format!("{path}/{action}"), body).await;
        act("redial", json!({})).await.problem(409, "invalid_state");
        act("terminate", json!({})).await.problem(422, "validation_failed");
        let unknown = act("terminate", json!({ "outcome_code": "sold" })).await;
        unknown.problem(422, "unknown_reference");
        assert_eq!(unknown.pointers(), ["/outcome_code"]);
        let given_up = act("terminate", json!({ "outcome_code": "no_answer", "note": "Moved" })).await;
        assert_eq!(given_up.header("etag"), "\"2\"");
        let given_up = given_up.ok();
        assert_eq!((&given_up["status"], &given_up["termination"]["code"]), (&json!("terminated"), &json!("no_answer")));
        assert_eq!(given_up["termination"]["category"], "non_contact");
        assert_eq!(given_up["termination"]["note"], "Moved");
        assert_eq!(given_up["allowed_actions"], json!(["redial", "erase"]));
        act("terminate", json!({ "outcome_code": "no_answer" })).await.problem(409, "invalid_state");
        let again = act("redial", json!({})).await.ok();
        assert_eq!((&again["status"], &again["termination"]), (&json!("unused"), &Value::Null));
        let nobody = format!("/v1/customers/{}/terminate", uuid::Uuid::now_v7());
        office.supervisor.post(&nobody, json!({ "outcome_code": "no_answer" })).await.problem(404, "not_found");
    }

    async fn a_call_back_is_agreed_changed_and_forgotten(app) {
        let app = TestApp::frozen(app.backend).await;
        let office = Office::open(&app).await;
        office.outcome("sold", "contact").await;
        let path = path_of(&office.customer("1", json!({})).await);
        let act = async |action: &str, body: Value| office.supervisor.post(&format!("{path}/{action}"), body).await;
        act("clear-callback", json!({})).await.problem(409, "invalid_state");
        let past = act("set-callback", json!({ "at": "2026-03-02T09:00:00Z" })).await;
        past.problem(422, "validation_failed");
        assert_eq!(past.pointers(), ["/at"]);
        act("set-callback", json!({ "at": "tomorrow" })).await.problem(422, "validation_failed");
        act("set-callback", json!({ "at": "2026-03-03T09:00:00Z", "note": "evening" })).await.ok();
        let moved = act("set-callback", json!({ "at": "2026-03-04T09:00:00Z" })).await.ok();
        assert_eq!(moved["status"], "callback");
        assert_eq!(moved["callback"], json!({ "at": "2026-03-04T09:00:00.000Z", "note": null }));
        assert_eq!(moved["allowed_actions"], json!(["terminate", "set_callback", "clear_callback", "erase"]));
        let forgotten = act("clear-callback", json!({})).await.ok();
        assert_eq!((&forgotten["status"], &forgotten["callback"]), (&json!("unused"), &Value::Null));
        act("set-callback", json!({ "at": "2026-03-04T09:00:00Z" })).await.ok();
        let sold = act("terminate", json!({ "outcome_code": "sold" })).await.ok();
        assert_eq!(sold["callback"], Value::Null, "who is given up is not called back");
        act("set-callback", json!({ "at": "2026-03-04T09:00:00Z" })).await.problem(409, "invalid_state");
    }

    async fn every_change_is_told_without_what_is_known_of_the_customer(app) {
        let office = Office::open(&app).await;
        office.outcome("sold", "contact").await;
        let anna = office.customer("secret-ref", json!({ "name": "Anna Secret" })).await;
        let path = path_of(&anna);
        office.supervisor.patch(&path, json!({ "email": "secret@example.org" })).await.ok();
        office.supervisor.post(&format!("{path}/terminate"), json!({ "outcome_code": "sold", "note": "secret" })).await.ok();
        office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        office.supervisor.delete(&path).await;
        use postroom::events::{Audience, entity::{Column, Entity}};
        use sea_orm::{EntityTrait, QueryOrder};
        let told = Entity::find().order_by_asc(Column::Seq).all(app.app.db.read()).await.unwrap();
        let kinds: Vec<_> = told.iter().filter(|event| event.kind.starts_with("customer.")).map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["created", "updated", "terminated", "erased", "texts_erased", "deleted"].map(|what| format!("customer.{what}")));
        for event in told {
            assert!(!event.data.to_string().to_lowercase().contains("secret"), "{}: {}", event.kind, event.data);
            assert!(!event.kind.starts_with("customer.") || event.audience == Audience::Supervisors);
        }
    }
}
