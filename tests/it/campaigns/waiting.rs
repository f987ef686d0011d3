//! What rules put off: sent at its time, held back while the campaign is suspended, cancelled when it stops.

use std::time::Duration;

use postroom::{
    campaigns::entity::CampaignState, clock::Timestamp, customers::entity::OutcomeCategory,
    events::entity as events,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::crowd::{Desk, id_of, template};
use crate::{
    on_both,
    support::{
        TestApp,
        outbound::{send, timeline, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

async fn delayed(app: &TestApp, rule: Value) -> Desk<'_> {
    Desk::new(app, async |admin| {
        let mut whole = json!({ "name": "A", "trigger": "first_attempt", "template_id": template(admin, "A", json!({})).await });
        whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        json!([whole])
    })
    .await
}

async fn after(app: &TestApp, seconds: u64) {
    app.app.clock.advance(Duration::from_secs(seconds));
    send(app).await;
    send(app).await;
}

on_both! {
    async fn a_delay_and_a_send_window_put_a_message_off(app) {
        let app = TestApp::frozen(app.backend).await;
        // It is Monday, 9:00; the calendar opens at 13:00.
        let desk = Desk::new(&app, async |admin| {
            let calendar = admin.post("/v1/calendars", json!({ "name": "Afternoons", "timezone": "UTC", "entries": [
                { "name": "Open", "kind": "open", "rule": { "type": "weekly", "days": ["mon"], "from": "13:00", "to": "14:00" } }] })).await.ok();
            let never = admin.post("/v1/calendars", json!({ "name": "Never", "timezone": "UTC" })).await.ok();
            let mail = template(admin, "Mail", json!({})).await;
            let rule = |name: &str, delay_s: i64, calendar: &Value| {
                json!({ "name": name, "trigger": "first_attempt", "template_id": mail, "delay_s": delay_s, "send_window": calendar["id"].as_str().map(|id| json!({ "calendar_id": id })) })
            };
            json!([rule("Plain", 600, &Value::Null), rule("Window", 0, &calendar), rule("Inside", 4 * 3600 + 60, &calendar),
                rule("Next week", 5 * 3600, &calendar), rule("Never", 0, &never)])
        }).await;
        let answer = desk.try_once("1", json!({})).await;
        let at: Vec<(&str, &str, &str)> = answer["messages"].as_array().unwrap().iter()
            .map(|one| (one["name"].as_str().unwrap(), one["state"].as_str().unwrap(), one["send_at"].as_str().unwrap())).collect();
        assert_eq!(at, [
            ("Plain", "scheduled", "2026-03-02T09:10:00.000Z"),
            ("Window", "scheduled", "2026-03-02T13:00:00.000Z"),
            ("Inside", "scheduled", "2026-03-02T13:01:00.000Z"),
            ("Next week", "scheduled", "2026-03-09T13:00:00.000Z"),
        ]);
        assert_eq!(answer["skipped"][0]["reason"], "window_never_opens");
        for made in answer["messages"].as_array().unwrap() {
            let shown = desk.admin.get(&format!("/v1/messages/{}", made["message_id"].as_str().unwrap())).await.ok();
            assert_eq!(shown["dated_at"], made["send_at"], "a mail bears the date at which it goes out");
        }
    }

    async fn what_waits_is_held_back_while_its_campaign_is_suspended_and_goes_out_afterwards(app) {
        let desk = delayed(&app, json!({ "delay_s": 3600 })).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let made = desk.try_once("1", json!({})).await["messages"][0]["message_id"].as_str().unwrap().to_owned();
        // A send that nobody's rule made goes out all the same.
        let other = json!({ "customer_id": desk.customer.id, "campaign_id": id_of(&desk.campaign),
            "content": { "subject": "x", "text": "y" }, "send_at": app.app.clock.now().plus_s(3600) });
        desk.admin.post("/v1/messages", other).await.ok();
        desk.admin.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        let held = desk.admin.get(&format!("/v1/messages/{made}")).await.ok();
        assert_eq!((&held["state"], &held["state_reason"]), (&json!("scheduled"), &json!("its campaign is suspended")));
        after(&app, 2 * 3600).await;
        assert_eq!(sink.received().len(), 1);
        let admin = app.admin().await;
        admin.post(&format!("{}/resume", desk.campaign), json!({})).await.ok();
        after(&app, 1).await;
        assert_eq!(sink.received().len(), 2);
        assert_eq!(app.admin().await.get(&format!("/v1/messages/{made}")).await.ok()["state"], "sent");
        let steps = timeline(&admin, made.parse().unwrap()).await;
        assert_eq!(steps[..4], ["created", "scheduled", "held_back", "released"]);
    }

    async fn what_waits_when_a_campaign_is_resumed_in_time_goes_out_at_its_time(app) {
        let desk = delayed(&app, json!({ "delay_s": 3600 })).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        desk.try_once("1", json!({})).await;
        for action in ["suspend", "resume"] {
            desk.admin.post(&format!("{}/{action}", desk.campaign), json!({})).await.ok();
        }
        after(&app, 3599).await;
        assert!(sink.received().is_empty());
        after(&app, 2).await;
        assert_eq!(sink.received().len(), 1);
    }

    async fn what_waits_is_cancelled_when_its_campaign_stops(app) {
        let desk = delayed(&app, json!({ "delay_s": 3600 })).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let made = desk.try_once("1", json!({})).await["messages"][0]["message_id"].as_str().unwrap().to_owned();
        desk.admin.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        let stopped = desk.admin.post(&format!("{}/stop", desk.campaign), json!({})).await.ok();
        assert_eq!(stopped["state"], json!(CampaignState::Stopped));
        after(&app, 2 * 3600).await;
        assert!(sink.received().is_empty());
        let admin = app.admin().await;
        let ended = admin.get(&format!("/v1/messages/{made}")).await.ok();
        assert_eq!((&ended["state"], &ended["state_reason"]), (&json!("cancelled"), &json!("its campaign was stopped")));
        let told = events::Entity::find().filter(events::Column::Kind.eq("message.cancelled"));
        let told = told.one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!(told.subject_id.to_string(), made);
    }

    async fn what_no_server_has_taken_yet_is_held_back_and_cancelled_like_what_waits(app) {
        let desk = delayed(&app, json!({ "once": false })).await;
        let tried = async |known_as: &str| desk.try_once(known_as, json!({})).await["messages"][0].clone();
        let made = tried("1").await;
        assert_eq!(made["state"], "held", "there is no outgoing server");
        let path = format!("/v1/messages/{}", made["message_id"].as_str().unwrap());
        desk.admin.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        after(&app, 30 * 24 * 3600).await;
        let admin = app.admin().await;
        let held = admin.get(&path).await.ok();
        assert_eq!((&held["state"], &held["state_reason"]), (&json!("scheduled"), &json!("its campaign is suspended")));
        assert!(sink.received().is_empty());
        admin.post(&format!("{}/resume", desk.campaign), json!({})).await.ok();
        // The time for which it was held does not make it too old.
        sink.behave(|behaviour| behaviour.rules = vec![Rule::at(Stage::Rcpt, Act::Reply("451 4.2.0 later")).times(1)]);
        after(&app, 1).await;
        assert_eq!(admin.get(&path).await.ok()["state"], "deferred");
        admin.post(&format!("{}/stop", desk.campaign), json!({})).await.ok();
        after(&app, 24 * 3600).await;
        assert_eq!(app.admin().await.get(&path).await.ok()["state"], "cancelled");
        assert!(sink.received().is_empty());
    }

    async fn whoever_wants_no_contact_gets_nothing_that_rules_put_off(app) {
        let desk = delayed(&app, json!({ "delay_s": 3600, "once": false })).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        desk.crowd.outcome("leave_me", OutcomeCategory::DoNotContact).await;
        let second = desk.crowd.customer("C-2", json!({})).await;
        let of_second = format!("/v1/customers/{}", second.id);
        let first = desk.try_once("1", json!({})).await["messages"][0]["message_id"].as_str().unwrap().to_owned();
        let report = json!({ "campaign_id": id_of(&desk.campaign), "attempt_ref": "x" });
        let other = desk.admin.post(&format!("{of_second}/attempts"), report).await.ok();
        let other = other["messages"][0]["message_id"].as_str().unwrap().to_owned();
        desk.try_once("2", json!({ "outcome_code": "leave_me" })).await;
        let ended = desk.admin.get(&format!("/v1/messages/{first}")).await.ok();
        assert_eq!((&ended["state"], &ended["state_reason"]), (&json!("cancelled"), &json!("the customer wants no contact")));
        assert_eq!(desk.admin.get(&format!("/v1/messages/{other}")).await.ok()["state"], "scheduled", "somebody else's");
        desk.admin.post(&format!("{of_second}/terminate"), json!({ "outcome_code": "leave_me" })).await.ok();
        assert_eq!(desk.admin.get(&format!("/v1/messages/{other}")).await.ok()["state"], "cancelled");
        after(&app, 2 * 3600).await;
        assert!(sink.received().is_empty());
    }

    async fn a_send_window_holds_whatever_delayed_a_message(app) {
        // Every day for two hours, one of which is over.
        let opened = app.app.clock.now().plus_s(-3600);
        let opened = Timestamp::from_millis(opened.as_millis() / 60_000 * 60_000);
        let hour = |at: Timestamp| at.to_chrono().format("%H:%M").to_string();
        let hours = json!({ "name": "Hours", "timezone": "UTC", "entries": [{ "name": "Open", "kind": "open", "rule": {
            "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": hour(opened), "to": hour(opened.plus_s(7200)) } }] });
        let desk = Desk::new(&app, async |admin| {
            let calendar = admin.post("/v1/calendars", hours.clone()).await.ok()["id"].clone();
            let mail = template(admin, "Mail", json!({})).await;
            json!([{ "name": "A", "trigger": "first_attempt", "template_id": mail, "send_window": { "calendar_id": calendar } }])
        }).await;
        let made = desk.try_once("1", json!({})).await["messages"][0].clone();
        assert_eq!(made["state"], "held");
        let id = made["message_id"].as_str().unwrap().to_owned();
        let path = format!("/v1/messages/{id}");
        let waits_until = async |days: i64| {
            let message = app.admin().await.get(&path).await.ok();
            assert_eq!((&message["state"], &message["send_at"]), (&json!("scheduled"), &json!(opened.plus_s(days * 24 * 3600))));
        };
        // The server comes when the window is closed.
        let sink = SmtpSink::start(Behaviour::default()).await;
        app.app.clock.advance(Duration::from_secs(2 * 3600));
        use_sink(&app.admin().await, &sink).await;
        after(&app, 0).await;
        waits_until(1).await;
        // A campaign that goes on at night lets nothing out, either.
        app.admin().await.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(24 * 3600));
        app.admin().await.post(&format!("{}/resume", desk.campaign), json!({})).await.ok();
        after(&app, 0).await;
        waits_until(2).await;
        assert!(sink.received().is_empty());
        after(&app, 22 * 3600).await;
        assert_eq!(sink.received().len(), 1);
        let admin = app.admin().await;
        assert_eq!(admin.get(&path).await.ok()["state"], "sent");
        let steps = timeline(&admin, id.parse().unwrap()).await;
        assert_eq!(steps.iter().filter(|step| *step == "scheduled").count(), 2, "{steps:?}");
    }

    async fn a_message_whose_send_window_is_gone_is_cancelled(app) {
        let hours = json!({ "name": "Hours", "timezone": "UTC", "entries": [{ "name": "Open", "kind": "open", "rule": {
            "type": "weekly", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "00:00", "to": "24:00" } }] });
        let desk = Desk::new(&app, async |admin| {
            let calendar = admin.post("/v1/calendars", hours.clone()).await.ok()["id"].clone();
            let mail = template(admin, "Mail", json!({})).await;
            json!([{ "name": "A", "trigger": "first_attempt", "template_id": mail, "delay_s": 60, "send_window": { "calendar_id": calendar } }])
        }).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let made = desk.try_once("1", json!({})).await["messages"][0]["message_id"].as_str().unwrap().to_owned();
        let calendar = desk.admin.get("/v1/calendars").await.ok()["items"].as_array().unwrap().iter()
            .find(|one| one["name"] == "Hours").unwrap()["id"].clone();
        let path = format!("/v1/calendars/{}", calendar.as_str().unwrap());
        desk.admin.patch(&path, json!({ "entries": [] })).await.ok();
        after(&app, 120).await;
        let ended = app.admin().await.get(&format!("/v1/messages/{made}")).await.ok();
        assert_eq!(ended["state"], "cancelled", "{ended}");
        assert!(ended["state_reason"].as_str().unwrap().contains("send window"), "{ended}");
        assert!(sink.received().is_empty());
    }
}
