//! Campaigns and their rules as configuration.

use postroom::{customers::entity::ListState, customers::entity::OutcomeCategory};
use reqwest::Method;
use serde_json::{Value, json};

use super::crowd::{Crowd, Desk, campaign, id_of, template};
use crate::{inbound::account, on_both};

on_both! {
    async fn a_campaign_is_made_started_suspended_resumed_stopped_and_deleted(app) {
        let admin = app.admin().await;
        let made = admin.post("/v1/campaigns", json!({ "name": "Renewals" })).await;
        assert_eq!((made.status, made.header("etag"), &made.body["state"]), (201, "\"1\"", &json!("draft")));
        assert_eq!(made.body["allowed_actions"], json!(["update", "delete", "start"]));
        let path = made.header("location").to_owned();
        let act = async |action: &str| admin.post(&format!("{path}/{action}"), json!({})).await;
        for early in ["suspend", "resume", "stop"] {
            act(early).await.problem(409, "invalid_state");
        }
        assert_eq!(act("start").await.ok()["allowed_actions"], json!(["update", "suspend", "stop"]));
        act("start").await.problem(409, "invalid_state");
        admin.delete(&path).await.problem(409, "invalid_state");
        assert_eq!(act("suspend").await.ok()["allowed_actions"], json!(["update", "resume", "stop"]));
        assert_eq!(act("resume").await.ok()["state"], "active");
        let stopped = act("stop").await;
        assert_eq!((stopped.header("etag"), stopped.body["allowed_actions"].clone()), ("\"5\"", json!(["delete"])));
        act("resume").await.problem(409, "invalid_state");
        admin.patch(&path, json!({ "name": "x" })).await.problem(409, "invalid_state");
        assert_eq!(admin.get("/v1/campaigns?state=stopped&sort=-name").await.ok()["items"].as_array().unwrap().len(), 1);
        admin.delete(&path).await.ok();
        admin.get(&path).await.problem(404, "not_found");
        act("start").await.problem(404, "not_found");
    }

    async fn a_campaign_is_changed_only_where_its_etag_fits_and_made_once_for_a_key(app) {
        let admin = app.admin().await;
        let create = |name: &str| admin.request(Method::POST, "/v1/campaigns").header("Idempotency-Key", "k").json(&json!({ "name": name }));
        let first = admin.send(create("Renewals")).await;
        let path = first.header("location").to_owned();
        assert_eq!(admin.send(create("Renewals")).await.ok(), first.ok());
        admin.send(create("Other")).await.problem(422, "idempotency_key_reused");
        admin.post("/v1/campaigns", json!({ "name": "Renewals" })).await.problem(409, "already_exists");
        admin.patch(&path, json!({ "description": "Spring" })).await.ok();
        let stale = admin.request(Method::PATCH, &path).header("If-Match", "\"1\"").json(&json!({ "name": "Lost" }));
        admin.send(stale).await.problem(412, "precondition_failed");
        let refused = admin.patch(&path, json!({ "name": "", "description": 7 })).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/name", "/description"]));
        assert_eq!(admin.get(&path).await.ok()["name"], "Renewals");
        app.agent("anna").await.0.get(&path).await.problem(403, "forbidden");
    }

    async fn rules_that_do_not_fit_are_refused_where_they_are_wrong(app) {
        let (admin, crowd) = (app.admin().await, Crowd::new(&app).await);
        crowd.outcome("no_answer", OutcomeCategory::NonContact).await;
        let mail = template(&admin, "Mail", json!({})).await;
        let text = template(&admin, "Text", json!({ "channel": "sms", "subject": "" })).await;
        let receipt = template(&admin, "Receipt", json!({ "purpose": "receipt", "subject": "x" })).await;
        let nobody = uuid::Uuid::now_v7();
        let rule = |members: Value| {
            let mut rule = json!({ "name": "A", "trigger": "first_attempt", "template_id": mail });
            rule.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            rule
        };
        for (rules, pointer) in [
            (json!([rule(json!({ "template_id": nobody }))]), "/message_rules/0/template_id"),
            (json!([rule(json!({ "template_id": text }))]), "/message_rules/0/template_id"),
            (json!([rule(json!({ "template_id": receipt }))]), "/message_rules/0/template_id"),
            (json!([rule(json!({ "template_id": "x" }))]), "/message_rules/0/template_id"),
            (json!([rule(json!({ "id": nobody }))]), "/message_rules/0/id"),
            (json!([rule(json!({})), rule(json!({}))]), "/message_rules/1/name"),
            (json!([rule(json!({ "trigger": "outcome" }))]), "/message_rules/0/match/outcome_codes"),
            (json!([rule(json!({ "trigger": "outcome", "match": { "outcome_codes": ["no_answer", "what"] } }))]), "/message_rules/0/match/outcome_codes/1"),
            (json!([rule(json!({ "match": { "outcome_codes": ["no_answer"] } }))]), "/message_rules/0/match/outcome_codes"),
            (json!([rule(json!({ "match": { "termination_category": "contact" } }))]), "/message_rules/0/match/termination_category"),
            (json!([rule(json!({ "send_window": { "calendar_id": nobody } }))]), "/message_rules/0/send_window/calendar_id"),
            (json!([rule(json!({ "delay_s": -1 }))]), "/message_rules/0/delay_s"),
            (json!([rule(json!({ "delay_s": 30 * 86_400 + 1 }))]), "/message_rules/0/delay_s"),
            (json!([rule(json!({ "trigger": "birthday" }))]), "/message_rules/0/trigger"),
            (json!([{ "trigger": "first_attempt", "template_id": mail }]), "/message_rules/0/name"),
            (json!((0..51).map(|n| rule(json!({ "name": n.to_string() }))).collect::<Vec<_>>()), "/message_rules"),
        ] {
            let refused = admin.post("/v1/campaigns", json!({ "name": "x", "message_rules": rules })).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{}", refused.body);
        }
        let sender = json!({ "name": "x", "email_account_id": nobody, "sms_account_id": account(&app, "support@example.com").await.id });
        assert_eq!(admin.post("/v1/campaigns", sender).await.pointers(), ["/email_account_id", "/sms_account_id"]);
        assert_eq!(admin.get("/v1/campaigns").await.ok()["items"], json!([]));
    }

    async fn a_rule_keeps_its_id_by_its_id_or_its_name(app) {
        let admin = app.admin().await;
        let sender = account(&app, "support@example.com").await.id;
        let mail = template(&admin, "Mail", json!({})).await;
        let rule = |name: &str| json!({ "name": name, "trigger": "first_attempt", "template_id": mail });
        let path = campaign(&admin, sender, json!([rule("A"), rule("B")])).await;
        let ids = |campaign: &Value| -> Vec<Value> { campaign["message_rules"].as_array().unwrap().iter().map(|rule| rule["id"].clone()).collect() };
        let first = ids(&admin.get(&path).await.ok());
        let mut renamed = rule("C");
        renamed["id"] = first[0].clone();
        let second = ids(&admin.patch(&path, json!({ "message_rules": [rule("B"), renamed, rule("A")] })).await.ok());
        assert_eq!((&second[0], &second[1]), (&first[1], &first[0]));
        assert!(!first.contains(&second[2]));
        let mut twice = rule("D");
        twice["id"] = second[0].clone();
        let refused = admin.patch(&path, json!({ "message_rules": [twice.clone(), { "id": second[0], "name": "E", "trigger": "first_attempt", "template_id": mail }] })).await;
        assert_eq!(refused.pointers(), ["/message_rules/1/id"]);
    }

    async fn a_campaign_starts_only_when_its_templates_are_published_and_it_has_a_sender(app) {
        let admin = app.admin().await;
        let draft = admin.post("/v1/templates", json!({ "name": "Draft", "subject": "x", "text": "y" })).await.ok()["id"].clone();
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "template_id": draft }]);
        let path = admin.post("/v1/campaigns", json!({ "name": "x", "message_rules": rules })).await.header("location").to_owned();
        let refused = admin.post(&format!("{path}/start"), json!({})).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/email_account_id", "/message_rules/0/template_id"]));
        assert_eq!(admin.get(&path).await.ok()["state"], "draft");
        let sender = account(&app, "support@example.com").await.id;
        admin.patch(&path, json!({ "email_account_id": sender })).await.ok();
        admin.post(&format!("/v1/templates/{}/publish", draft.as_str().unwrap()), json!({})).await.ok();
        admin.post(&format!("{path}/start"), json!({})).await.ok();
        // It runs: what it needs stays.
        assert_eq!(admin.patch(&path, json!({ "email_account_id": null })).await.pointers(), ["/email_account_id"]);
        let another = admin.post("/v1/templates", json!({ "name": "Another", "subject": "x", "text": "y" })).await.ok()["id"].clone();
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "template_id": another }]);
        assert_eq!(admin.patch(&path, json!({ "message_rules": rules })).await.pointers(), ["/message_rules/0/template_id"]);
    }

    async fn what_a_rule_names_is_not_taken_away_while_it_may_fire(app) {
        let admin = app.admin().await;
        let sender = account(&app, "support@example.com").await.id;
        let mail = template(&admin, "Mail", json!({})).await;
        let calendar = admin.post("/v1/calendars", json!({ "name": "Office", "timezone": "Europe/London" })).await;
        let calendar = calendar.header("location").to_owned();
        let window = json!({ "calendar_id": id_of(&calendar) });
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "template_id": mail, "send_window": window }]);
        let path = campaign(&admin, sender, rules.clone()).await;
        let archive = format!("/v1/templates/{mail}/archive");
        admin.post(&archive, json!({})).await.problem(409, "in_use");
        admin.delete(&calendar).await.problem(409, "in_use");
        admin.delete(&format!("/v1/accounts/{sender}")).await.problem(409, "in_use");
        admin.post(&format!("{path}/start"), json!({})).await.ok();
        admin.post(&format!("{path}/stop"), json!({})).await.ok();
        let crowd = Crowd::new(&app).await;
        let own = format!("/v1/lists/{}/message-rules", crowd.list_id);
        admin.put(&own, json!({ "message_rules": rules })).await.ok();
        let refused = admin.post(&archive, json!({})).await;
        refused.problem(409, "in_use");
        assert!(refused.body["detail"].as_str().unwrap().contains("list"), "{}", refused.body);
        admin.delete(&own).await.ok();
        admin.post(&archive, json!({})).await.ok();
        admin.delete(&calendar).await.ok();
        // A list keeps its campaign.
        crowd.join(Some(id_of(&path).parse().unwrap()), ListState::Active).await;
        admin.delete(&path).await.problem(409, "in_use");
    }

    async fn a_lists_own_rules_stand_in_for_its_campaigns(app) {
        let desk = Desk::new(&app, async |admin| {
            json!([{ "name": "Ours", "trigger": "first_attempt", "template_id": template(admin, "Mail", json!({})).await }])
        }).await;
        let (admin, own) = (&desk.admin, format!("/v1/lists/{}/message-rules", desk.crowd.list_id));
        let shown = admin.get(&own).await.ok();
        assert_eq!((&shown["own"], &shown["message_rules"][0]["name"]), (&json!(false), &json!("Ours")));
        admin.delete(&own).await.problem(404, "not_found");
        let stale = admin.request(Method::PUT, &own).header("If-Match", "\"9\"").json(&json!({ "message_rules": [] }));
        admin.send(stale).await.problem(412, "precondition_failed");
        let other = template(admin, "Other", json!({})).await;
        let rules = json!([{ "name": "Theirs", "trigger": "first_attempt", "template_id": other }]);
        let replaced = admin.put(&own, json!({ "message_rules": rules })).await;
        assert_eq!((replaced.header("etag"), &replaced.body["own"]), ("\"2\"", &json!(true)));
        let id = replaced.body["message_rules"][0]["id"].clone();
        let again = admin.put(&own, json!({ "message_rules": rules })).await.ok();
        assert_eq!(again["message_rules"][0]["id"], id);
        assert_eq!(desk.tried("1", json!({})).await, (vec!["Theirs".to_owned()], vec![]));
        assert_eq!(admin.put(&own, json!({})).await.pointers(), ["/message_rules"]);
        let wrong = json!({ "message_rules": [{ "name": "x", "trigger": "first_attempt", "template_id": uuid::Uuid::now_v7() }] });
        assert_eq!(admin.put(&own, wrong).await.pointers(), ["/message_rules/0/template_id"]);
        admin.put(&format!("/v1/lists/{}/message-rules", uuid::Uuid::now_v7()), json!({ "message_rules": [] })).await.problem(404, "not_found");
    }
}
