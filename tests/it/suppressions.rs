//! Addresses that nothing is sent to: channels, scopes, and files of them.

use postroom::{
    campaigns::entity::{CampaignState, campaign},
    id::CampaignId,
    suppressions::{AddressKeys, Barred, bar::bar, entity::SuppressionReason},
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use crate::{
    on_both,
    support::{Client, Reply, TestApp},
};

async fn campaign(app: &TestApp) -> CampaignId {
    let now = app.app.clock.now();
    let row = campaign::ActiveModel {
        id: Set(CampaignId::new(now)),
        name: Set("Spring".into()),
        description: Set(String::new()),
        state: Set(CampaignState::Active),
        email_account_id: Set(None),
        sms_account_id: Set(None),
        message_rules: Set(json!([])),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let tx = app.app.db.begin().await.unwrap();
    let row = campaign::Entity::insert(row).exec_with_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    row.id
}

async fn import(client: &Client, media: &str, body: impl Into<reqwest::Body>) -> Reply {
    let post = client.request(Method::POST, "/v1/suppressions/import").header("content-type", media);
    client.send(post.body(body)).await
}

async fn addresses(client: &Client, query: &str) -> Vec<Value> {
    let page = client.get(&format!("/v1/suppressions?{query}")).await.ok();
    page["items"].as_array().unwrap().iter().map(|one| one["address"].clone()).collect()
}

fn counts(report: &Value) -> [i64; 4] {
    ["rows_read", "created_count", "unchanged_count", "failed_count"]
        .map(|count| report[count].as_i64().unwrap())
}

on_both! {
    async fn a_number_is_suppressed_however_it_is_written(app) {
        let supervisor = app.supervisor().await;
        let made = supervisor.post("/v1/suppressions", json!({ "address": "0044 20 7946-0018" })).await.ok();
        assert_eq!((&made["address"], &made["channel"]), (&json!("+442079460018"), &json!("sms")));
        assert_eq!(addresses(&supervisor, "address=%2B44%20(20)%2079460018").await, [json!("+442079460018")]);
        supervisor.post("/v1/suppressions", json!({ "address": "a@example.org" })).await.ok();
        assert_eq!(addresses(&supervisor, "channel=email").await, [json!("a@example.org")]);
        assert_eq!(addresses(&supervisor, "channel=sms").await, [json!("+442079460018")]);
        for (body, code) in [
            (json!({ "address": "0123456789" }), "invalid_number"),
            (json!({ "address": "a@example.org", "channel": "sms" }), "invalid_number"),
            (json!({ "address": "+442079460018", "channel": "email" }), "invalid_address"),
        ] {
            let refused = supervisor.post("/v1/suppressions", body).await;
            refused.problem(422, "validation_failed");
            assert_eq!(refused.body["errors"][0]["code"], code);
        }
    }

    async fn a_suppression_of_one_campaign_stands_beside_that_of_all(app) {
        let supervisor = app.supervisor().await;
        let campaign = campaign(&app).await;
        let body = json!({ "address": "a@example.org", "campaign_id": campaign });
        let made = supervisor.post("/v1/suppressions", body.clone()).await.ok();
        assert_eq!(made["campaign_id"], json!(campaign));
        supervisor.post("/v1/suppressions", json!({ "address": "a@example.org" })).await.ok();
        let again = supervisor.post("/v1/suppressions", body).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/address"]);
        assert_eq!(addresses(&supervisor, &format!("campaign_id={campaign}")).await.len(), 1);
        assert_eq!(addresses(&supervisor, "address=a@example.org").await.len(), 2);
        let unknown = json!({ "address": "b@example.org", "campaign_id": uuid::Uuid::now_v7() });
        let refused = supervisor.post("/v1/suppressions", unknown).await;
        refused.problem(422, "unknown_reference");
        assert_eq!(refused.pointers(), ["/campaign_id"]);
    }

    async fn a_file_of_suppressions_is_taken_row_by_row(app) {
        let supervisor = app.supervisor().await;
        let campaign = campaign(&app).await;
        supervisor.post("/v1/suppressions", json!({ "address": "known@example.org", "note": "first" })).await.ok();
        let text = format!(
            "Address,reason,campaign_id,note,expires_at\n\
             KNOWN@example.org,bounced,,,\n\
             a@example.org,unsubscribed,,\"old, very\",2999-01-01T00:00:00Z\n\
             a@example.org,manual,{campaign},,\n\
             '+44 20 7946 0018,,,,\n\
             nobody,,,,\n\
             b@example.org,bored,,,\n\
             c@example.org,,{},,\n\
             d@example.org,,,,2001-01-01T00:00:00Z\n\
             e@example.org\n\
             A@example.org,,,,\n",
            uuid::Uuid::now_v7(),
        );
        let report = import(&supervisor, "text/csv", text.clone()).await.ok();
        assert_eq!(counts(&report), [10, 5, 0, 5], "{report}");
        let told = report["errors"].as_array().unwrap().iter();
        let told: Vec<_> = told.map(|error| (error["line"].as_i64().unwrap(), error["code"].as_str().unwrap())).collect();
        for expected in [(6, "invalid_number"), (7, "unknown_value"), (8, "unknown_reference"), (9, "past"), (10, "wrong_number_of_cells")] {
            assert!(told.contains(&expected), "{expected:?} in {told:?}");
        }
        // No reason hides another.
        let known = supervisor.get("/v1/suppressions?address=known@example.org").await.ok();
        let known: Vec<_> = known["items"].as_array().unwrap().iter().map(|one| (&one["reason"], &one["note"])).collect();
        assert_eq!(known, [(&json!("manual"), &json!("first")), (&json!("bounced"), &Value::Null)]);
        assert_eq!(counts(&import(&supervisor, "text/csv", text).await.ok()), [10, 0, 5, 5], "a file can be sent again");
        let lines = "{\"address\":\"x@example.org\",\"reason\":\"complained\"}\n{\"colour\":1}\nno\n";
        let report = import(&supervisor, "application/x-ndjson", lines).await.ok();
        assert_eq!(counts(&report), [3, 1, 0, 2], "{report}");
    }

    async fn a_file_that_is_none_is_refused_at_once(app) {
        let supervisor = app.supervisor().await;
        let refused = import(&supervisor, "text/csv", "email\na@example.org\n").await;
        refused.problem(422, "validation_failed");
        assert_eq!(refused.pointers(), ["/header/address", "/header/0"]);
        import(&supervisor, "text/csv", "").await.problem(422, "validation_failed");
        import(&supervisor, "application/json", "{}").await.problem(415, "unsupported_media_type");
        import(&supervisor, "text/csv; charset=utf-16", "address\n").await.problem(415, "unsupported_media_type");
        let (agent, _) = app.agent("anna").await;
        import(&agent, "text/csv", "address\n").await.problem(403, "forbidden");
        agent.get("/v1/suppressions/export").await.problem(403, "forbidden");
        assert_eq!(counts(&import(&supervisor, "text/csv", "address").await.ok()), [0; 4]);
    }

    async fn what_is_exported_can_be_imported_elsewhere(app) {
        let supervisor = app.supervisor().await;
        let rows: String = (0..1100).map(|n| format!("a{n}@example.org,bounced\n")).collect();
        let text = format!("address,reason\n{rows}'+442079460018,manual\n");
        assert_eq!(counts(&import(&supervisor, "text/csv", text).await.ok()), [1101, 1101, 0, 0]);
        let csv = supervisor.get("/v1/suppressions/export").await;
        assert_eq!(csv.header("content-disposition"), "attachment; filename=\"suppressions.csv\"");
        let text = String::from_utf8(csv.bytes.clone()).unwrap();
        assert_eq!(text.lines().count(), 1102);
        assert!(text.contains("\r\n'+442079460018,sms,,manual,,,"));
        let ndjson = supervisor.get("/v1/suppressions/export?format=ndjson").await.bytes;
        let elsewhere = TestApp::start(app.backend).await;
        let there = elsewhere.supervisor().await;
        assert_eq!(counts(&import(&there, "text/csv", csv.bytes).await.ok()), [1101, 1101, 0, 0]);
        assert_eq!(counts(&import(&there, "application/x-ndjson", ndjson).await.ok()), [1101, 0, 1101, 0]);
        supervisor.get("/v1/suppressions/export?format=xml").await.problem(400, "invalid_parameter");
    }

    async fn a_suppression_that_is_over_stands_in_no_files_way(app) {
        let app = TestApp::frozen(app.backend).await;
        let supervisor = app.supervisor().await;
        let soon = app.app.clock.now().plus_s(60);
        supervisor.post("/v1/suppressions", json!({ "address": "a@example.org", "expires_at": soon })).await.ok();
        let until = |at: &str| format!("address,expires_at\na@example.org,{at}\n");
        let sooner = until(&app.app.clock.now().plus_s(30).to_string());
        assert_eq!(counts(&import(&supervisor, "text/csv", sooner).await.ok()), [1, 0, 1, 0]);
        app.app.clock.advance(std::time::Duration::from_secs(61));
        let exported = supervisor.get("/v1/suppressions/export").await.bytes;
        assert_eq!(String::from_utf8(exported).unwrap().lines().count(), 1, "only the header");
        assert_eq!(counts(&import(&supervisor, "text/csv", "address\na@example.org\n").await.ok()), [1, 1, 0, 0]);
        let found = supervisor.get("/v1/suppressions?address=a@example.org&sort=address").await.ok();
        assert_eq!(found["items"][0]["expires_at"], Value::Null);
    }

    async fn what_holds_for_a_while_is_extended_and_gives_way_to_nothing(app) {
        let app = TestApp::frozen(app.backend).await;
        let supervisor = app.supervisor().await;
        let soon = app.app.clock.now().plus_s(60);
        for reason in ["soft_bounced", "manual"] {
            let body = json!({ "address": "a@example.org", "reason": reason, "expires_at": soon });
            supervisor.post("/v1/suppressions", body).await.ok();
        }
        // The same reason again is a conflict; a file makes it last.
        let again = supervisor.post("/v1/suppressions", json!({ "address": "a@example.org" })).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/address"]);
        let report = import(&supervisor, "text/csv", "address\nA@example.org\na@example.org\n").await.ok();
        assert_eq!((counts(&report), &report["extended_count"]), ([2, 0, 1, 0], &json!(1)));
        app.app.clock.advance(std::time::Duration::from_secs(61));
        let found = app.supervisor().await.get("/v1/suppressions?address=a@example.org").await.ok();
        let found: Vec<_> = found["items"].as_array().unwrap().iter().map(|one| (&one["reason"], &one["in_force"])).collect();
        assert_eq!(found, [(&json!("soft_bounced"), &json!(false)), (&json!("manual"), &json!(true))]);
    }

    async fn an_unsubscription_does_not_make_another_reason_last(app) {
        let app = TestApp::frozen(app.backend).await;
        let now = app.app.clock.now();
        let soon = now.plus_s(60);
        let body = json!({ "address": "a@example.org", "expires_at": soon });
        app.supervisor().await.post("/v1/suppressions", body).await.ok();
        let tx = app.app.db.begin().await.unwrap();
        bar(&app.app, &tx, now, "A@example.org", SuppressionReason::Unsubscribed, "by a link").await.unwrap();
        tx.commit().await.unwrap();
        let why = async |marketing: bool, at| {
            let keys = AddressKeys::of(&app.app);
            let barred = Barred::among(app.app.db.read(), keys, ["a@example.org"], at).await.unwrap();
            barred.reason("a@example.org", marketing, None)
        };
        assert_eq!((why(false, now).await, why(true, now).await), (Some(SuppressionReason::Manual), Some(SuppressionReason::Manual)));
        let later = soon.plus_s(1);
        assert_eq!((why(false, later).await, why(true, later).await), (None, Some(SuppressionReason::Unsubscribed)));
    }
}
