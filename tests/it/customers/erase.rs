//! What is left of a customer who was erased.

use postroom::{
    campaigns::entity::attempt,
    customers::entity::OutcomeCategory,
    id::{AttemptId, CustomerId},
    suppressions::entity::Entity as Suppressions,
};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, Statement};
use serde_json::{Value, json};

use super::{Office, path_of};
use crate::{on_both, support::TestApp};

/// Every text that the tables hold in which something of a customer can stand.
async fn stored(app: &TestApp) -> String {
    let mut all = String::new();
    for (table, columns) in [
        (
            "customers",
            "ref || name || coalesce(email, '') || coalesce(sms_number, '') || CAST(telephones AS TEXT) \
                       || CAST(data AS TEXT) || coalesce(callback_note, '') || coalesce(termination_note, '')",
        ),
        ("suppressions", "coalesce(address, '') || coalesce(note, '')"),
        ("attempts", "CAST(answer AS TEXT)"),
        ("import_errors", "coalesce(customer_ref, '') || detail"),
    ] {
        let sql = format!("SELECT {columns} FROM {table}");
        let rows =
            app.app.db.read().query_all_raw(Statement::from_string(app.app.db.backend(), sql)).await.unwrap();
        all.extend(rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap() + "\n"));
    }
    all
}

on_both! {
    async fn nothing_is_known_of_an_erased_customer_and_nothing_is_sent_to_them(app) {
        let office = Office::open(&app).await;
        let anna = office.customer("K-anna", json!({
            "name": "Anna", "email": "Anna@example.org", "sms_number": "+442079460018", "locale": "en",
            "telephones": [{ "number": "anna's" }], "data": { "pet": "anna's cat" },
        })).await;
        let path = path_of(&anna);
        office.supervisor.post(&format!("{path}/set-callback"), json!({ "at": "2029-01-01T00:00:00Z", "note": "ask anna" })).await.ok();
        let noted = json!({ "address": "anna@example.org", "reason": "unsubscribed", "note": "anna rang" });
        office.supervisor.post("/v1/suppressions", noted).await.ok();
        let now = app.app.clock.now();
        let id: CustomerId = anna["id"].as_str().unwrap().parse().unwrap();
        let tx = app.app.db.begin().await.unwrap();
        attempt::Entity::insert(attempt::ActiveModel {
            id: Set(AttemptId::new(now)),
            customer_id: Set(id),
            campaign_id: Set(None),
            attempt_ref: Set("call-1".into()),
            number: Set(1),
            outcome_code: Set(Some("busy".into())),
            outcome_category: Set(Some(OutcomeCategory::NonContact)),
            request_hash: Set("0".into()),
            answer: Set(json!({ "customer": { "name": "Anna" } })),
            attempted_at: Set(now),
            created_at: Set(now),
        }).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        assert!(stored(&app).await.to_lowercase().contains("anna"));

        let erased = office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        assert!(!stored(&app).await.to_lowercase().contains("anna"));
        assert!(!stored(&app).await.contains("442079460018"));
        assert_eq!((&erased["status"], &erased["allowed_actions"]), (&json!("terminated"), &json!([])));
        assert_eq!((&erased["email"], &erased["callback"], &erased["data"]), (&Value::Null, &Value::Null, &json!({})));
        assert!(erased["ref"].as_str().unwrap().starts_with("erased-"));
        assert!(!erased["erased_at"].is_null());
        assert_eq!(Suppressions::find().all(app.app.db.read()).await.unwrap().len(), 3, "what she did herself stays, too");

        let again = office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        assert_eq!(again, erased);
        for address in ["ANNA@example.org", "%2B442079460018"] {
            let found = office.supervisor.get(&format!("/v1/suppressions?reason=manual&address={address}")).await.ok();
            let found: Vec<_> = found["items"].as_array().unwrap().iter().map(|one| (&one["address"], &one["expires_at"])).collect();
            assert_eq!(found, [(&Value::Null, &Value::Null)]);
        }
    }

    async fn two_customers_of_one_address_are_erased_one_after_the_other(app) {
        let office = Office::open(&app).await;
        for known_as in ["1", "2"] {
            let path = path_of(&office.customer(known_as, json!({ "email": "anna@example.org" })).await);
            office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        }
        office.supervisor.post("/v1/suppressions", json!({ "address": "ben@example.org" })).await.ok();
        office.supervisor.post("/v1/suppressions", json!({ "address": "cleo@example.org" })).await.ok();
        let all = office.supervisor.get("/v1/suppressions").await.ok();
        assert_eq!(all["items"].as_array().unwrap().len(), 3);
        let known = office.supervisor.get("/v1/suppressions?sort=-address&limit=1").await.ok();
        assert_eq!(known["items"][0]["address"], "cleo@example.org");
        let cursor = known["next_cursor"].as_str().unwrap();
        let rest = office.supervisor.get(&format!("/v1/suppressions?sort=-address&limit=1&cursor={cursor}")).await.ok();
        assert_eq!((&rest["items"][0]["address"], &rest["next_cursor"]), (&json!("ben@example.org"), &Value::Null));
        let exported = office.supervisor.get("/v1/suppressions/export").await.bytes;
        assert_eq!(String::from_utf8(exported).unwrap().lines().count(), 3, "a header and two that are known");
    }

    async fn who_was_erased_is_still_held_back_when_a_file_brings_them_back(app) {
        let office = Office::open(&app).await;
        let path = path_of(&office.customer("1", json!({ "email": "anna@example.org" })).await);
        office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        let file = super::super::import::File::new(&office, "text/csv").await;
        file.send(&office, "ref,email\n1,ANNA@example.org\n").await.ok();
        let back = office.supervisor.get("/v1/customers?email=anna@example.org").await.ok();
        assert_eq!(back["items"][0]["ref"], "1");
        let keys = postroom::suppressions::AddressKeys::of(&app.app);
        let now = app.app.clock.now();
        let barred = postroom::suppressions::Barred::among(app.app.db.read(), keys, ["Anna@example.org"], now).await.unwrap();
        assert!(barred.reason("Anna@example.org", false, None).is_some());
    }

    async fn an_erased_customer_stays_as_they_are(app) {
        let office = Office::open(&app).await;
        office.outcome("sold", "contact").await;
        let path = path_of(&office.customer("1", json!({ "email": "anna@example.org" })).await);
        office.supervisor.post(&format!("{path}/erase"), json!({})).await.ok();
        office.supervisor.patch(&path, json!({ "name": "Anna" })).await.problem(409, "invalid_state");
        for (action, body) in [
            ("redial", json!({})),
            ("terminate", json!({ "outcome_code": "sold" })),
            ("set-callback", json!({ "at": "2029-01-01T00:00:00Z" })),
            ("clear-callback", json!({})),
        ] {
            office.supervisor.post(&format!("{path}/{action}"), body).await.problem(409, "invalid_state");
        }
        let back = json!({ "list_id": office.list, "email": "anna@example.org" });
        let back = office.supervisor.put("/v1/customers/by-ref/1", back).await;
        assert_eq!(back.status, 201, "the same ref is somebody new");
        assert_eq!(office.supervisor.delete(&path).await.status, 204);
        let found = office.supervisor.get("/v1/suppressions?address=anna@example.org").await.ok();
        assert_eq!(found["items"][0]["in_force"], true, "the suppression outlives the record");
        let nobody = format!("/v1/customers/{}/erase", uuid::Uuid::now_v7());
        office.supervisor.post(&nobody, json!({})).await.problem(404, "not_found");
    }
}
