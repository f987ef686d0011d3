//! What follows from an attempt.

use postroom::{
    accounts::entity::{AccountState, account},
    customers::entity::{CustomerStatus, ListState, OutcomeCategory, customer},
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use super::crowd::{Desk, id_of, said, template};
use crate::{
    inbound::{account as another_account, push_mail},
    on_both,
    support::{
        TestApp,
        outbound::{send, use_sink},
        smtp_sink::{Behaviour, SmtpSink},
    },
};

/// "Tried" at the first attempt, "Missed" when given up for a non-contact reason.
async fn seed(app: &TestApp) -> Desk<'_> {
    Desk::new(app, async |admin| {
        json!([
            { "name": "Tried", "trigger": "first_attempt", "template_id": template(admin, "Tried", json!({})).await },
            { "name": "Missed", "trigger": "terminated", "template_id": template(admin, "Missed", json!({})).await },
        ])
    })
    .await
}

/// A desk with one rule for the first attempt, whose template has these members.
async fn one_rule(app: &TestApp, members: Value, rule: Value) -> Desk<'_> {
    Desk::new(app, async |admin| {
        let mut whole = json!({ "name": "A", "trigger": "first_attempt", "template_id": template(admin, "A", members).await });
        whole.as_object_mut().unwrap().extend(rule.as_object().unwrap().clone());
        json!([whole])
    })
    .await
}

fn skip(reason: &str) -> (Vec<String>, Vec<(String, String)>) {
    (vec![], vec![("A".to_owned(), reason.to_owned())])
}

async fn set_account(desk: &Desk<'_>, app: &TestApp, state: AccountState) {
    let tx = app.app.db.begin().await.unwrap();
    let row = account::ActiveModel { id: Set(desk.account), state: Set(state), ..Default::default() };
    account::Entity::update(row).exec(&*tx).await.unwrap();
    tx.commit().await.unwrap();
}

on_both! {
    async fn the_first_attempt_and_giving_up_for_no_answer_each_send_their_template(app) {
        let desk = seed(&app).await;
        let sink = SmtpSink::start(Behaviour::default()).await;
        use_sink(&desk.admin, &sink).await;
        let first = desk.try_once("call-1", json!({ "outcome_code": "no_answer" })).await;
        assert_eq!(said(&first), (vec!["Tried".to_owned()], vec![]));
        assert_eq!((&first["attempt"]["number"], &first["attempt"]["outcome_category"]), (&json!(1), &json!("non_contact")));
        assert_eq!((&first["customer"]["status"], &first["customer"]["attempts"]), (&json!("in_progress"), &json!(1)));
        let given_up = desk.try_once("call-2", json!({ "outcome_code": "no_answer", "next": { "terminate": true } })).await;
        assert_eq!(said(&given_up), (vec!["Missed".to_owned()], vec![]));
        let customer = desk.crowd.reload(desk.customer.id).await;
        assert_eq!((customer.status, customer.attempt_count), (CustomerStatus::Terminated, 2));
        assert_eq!((customer.termination_code.as_deref(), customer.termination_category), (Some("no_answer"), Some(OutcomeCategory::NonContact)));
        let made = &first["messages"][0];
        assert_eq!((&made["state"], &made["subject"], &made["to"]["address"]), (&json!("queued"), &json!("Tried for Kim C-1"), &json!("c-1@example.org")));
        send(&app).await;
        let mut subjects: Vec<String> = sink.received().iter().map(|mail| String::from_utf8_lossy(&mail.raw).into_owned()).collect();
        subjects.retain(|raw| raw.contains("Subject: Tried for Kim C-1") || raw.contains("Subject: Missed for Kim C-1"));
        assert_eq!(subjects.len(), 2);
        let message = desk.admin.get(&format!("/v1/messages/{}", made["message_id"].as_str().unwrap())).await.ok();
        assert_eq!((&message["customer_id"], &message["template_id"], &message["category"]), (&json!(desk.customer.id), &made["template_id"], &json!("transactional")));
        let of_campaign = desk.admin.get(&format!("/v1/messages?campaign_id={}", message["campaign_id"].as_str().unwrap())).await.ok();
        assert_eq!(of_campaign["items"].as_array().unwrap().len(), 2);
        // Whoever answers comes back into the same conversation, as work.
        let header = message["message_id_header"].as_str().unwrap();
        let answered = push_mail(&desk.admin, desk.account, &format!("In-Reply-To: <{header}>")).await;
        assert_eq!(made["conversation_id"].as_str(), Some(answered.as_str()));
        let listed = desk.admin.get(&desk.path()).await.ok();
        let refs: Vec<&str> = listed["items"].as_array().unwrap().iter().map(|one| one["attempt_ref"].as_str().unwrap()).collect();
        assert_eq!(refs, ["call-1", "call-2"]);
    }

    async fn giving_up_for_a_contact_reason_sends_nothing_and_says_why(app) {
        let desk = seed(&app).await;
        desk.try_once("1", json!({})).await;
        let (sent, skipped) = desk.tried("2", json!({ "outcome_code": "sale", "next": { "terminate": true } })).await;
        assert_eq!((sent, skipped), (vec![], vec![("Missed".to_owned(), "no_match".to_owned())]));
        // Whoever was given up gets nothing more, and is not given up again.
        assert_eq!(desk.tried("3", json!({ "outcome_code": "no_answer", "next": { "terminate": true } })).await, (vec![], vec![]));
        assert_eq!(desk.crowd.reload(desk.customer.id).await.termination_code.as_deref(), Some("sale"));
    }

    async fn whoever_wants_no_contact_is_given_up_and_gets_nothing_unasked(app) {
        let desk = seed(&app).await;
        let answer = desk.try_once("1", json!({ "outcome_code": "never" })).await;
        let expected = [("Tried", "do_not_contact"), ("Missed", "no_match")].map(|(name, why)| (name.to_owned(), why.to_owned()));
        assert_eq!(said(&answer), (vec![], expected.to_vec()));
        assert_eq!((&answer["customer"]["status"], &answer["customer"]["termination_category"]), (&json!("terminated"), &json!("do_not_contact")));
        let refused = desk.admin.post(&desk.path(), desk.report("2", json!({ "outcome_code": "never", "next": { "callback_at": app.app.clock.now().plus_s(60) } }))).await;
        assert_eq!(refused.pointers(), ["/next/callback_at"]);
    }

    async fn an_outcome_and_a_call_back_fire_their_rules(app) {
        let desk = Desk::new(&app, async |admin| {
            let mail = template(admin, "Mail", json!({ "subject": "x", "text": "{{ customer.callback_at | default('soon') }}" })).await;
            json!([
                { "name": "Sold", "trigger": "outcome", "match": { "outcome_codes": ["sale"] }, "template_id": mail },
                { "name": "Back", "trigger": "callback_set", "template_id": mail },
                { "name": "Gone", "trigger": "terminated", "match": { "termination_category": "contact" }, "template_id": mail, "once": false },
            ])
        }).await;
        let no_match = vec![("Sold".to_owned(), "no_match".to_owned())];
        assert_eq!(desk.tried("1", json!({ "outcome_code": "no_answer" })).await, (vec![], no_match));
        let at = app.app.clock.now().plus_s(3600);
        let back = desk.try_once("2", json!({ "next": { "callback_at": at, "callback_note": "On the mobile" } })).await;
        assert_eq!(said(&back), (vec!["Back".to_owned()], vec![]));
        assert_eq!((&back["customer"]["status"], &back["customer"]["callback_at"], &back["customer"]["callback_note"]), (&json!("callback"), &json!(at), &json!("On the mobile")));
        let again = desk.try_once("3", json!({ "outcome_code": "sale" })).await;
        assert_eq!((said(&again).0, &again["customer"]["status"], &again["customer"]["callback_at"]), (vec!["Sold".to_owned()], &json!("in_progress"), &Value::Null));
        let once = vec![("Sold".to_owned(), "once".to_owned())];
        assert_eq!(desk.tried("4", json!({ "outcome_code": "sale", "next": { "terminate": true } })).await, (vec!["Gone".to_owned()], once));
    }

    async fn the_same_report_is_answered_again_and_another_one_under_its_reference_is_refused(app) {
        let desk = seed(&app).await;
        let report = desk.report("call-1", json!({ "outcome_code": "no_answer" }));
        let first = desk.admin.post(&desk.path(), report.clone()).await;
        assert_eq!((first.status, first.header("location")), (201, desk.path().as_str()));
        desk.try_once("call-2", json!({})).await;
        let again = desk.admin.post(&desk.path(), report.clone()).await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        let by_ref = desk.admin.post("/v1/customers/by-ref/C-1/attempts", report.clone()).await;
        assert_eq!((by_ref.status, &by_ref.body), (200, &first.body));
        let other = desk.admin.post(&desk.path(), desk.report("call-1", json!({ "outcome_code": "sale" }))).await;
        other.problem(409, "attempt_ref_reused");
        assert_eq!(desk.crowd.reload(desk.customer.id).await.attempt_count, 2);
        assert_eq!(desk.admin.get("/v1/messages?direction=outbound").await.ok()["items"].as_array().unwrap().len(), 1);
        // The key of HTTP works as everywhere.
        let keyed = |body: Value| desk.admin.request(Method::POST, &desk.path()).header("Idempotency-Key", "k").json(&body);
        let third = desk.admin.send(keyed(desk.report("call-3", json!({})))).await;
        let replayed = desk.admin.send(keyed(desk.report("call-3", json!({})))).await;
        assert_eq!((third.status, replayed.status, replayed.header("idempotent-replayed")), (201, 201, "true"));
        desk.admin.send(keyed(desk.report("call-4", json!({})))).await.problem(422, "idempotency_key_reused");
    }

    async fn a_report_that_cannot_be_taken_changes_nothing(app) {
        let desk = seed(&app).await;
        let now = app.app.clock.now();
        let nobody = uuid::Uuid::now_v7();
        let report = |members: Value| desk.report("1", members);
        for (body, pointer) in [
            (json!({ "attempt_ref": "1" }), "/campaign_id"),
            (report(json!({ "attempt_ref": "" })), "/attempt_ref"),
            (report(json!({ "attempt_ref": "x".repeat(201) })), "/attempt_ref"),
            (report(json!({ "attempt_ref": 7 })), "/attempt_ref"),
            (report(json!({ "campaign_id": nobody })), "/campaign_id"),
            (report(json!({ "outcome_code": "what" })), "/outcome_code"),
            (report(json!({ "attempted_at": now.plus_s(3600) })), "/attempted_at"),
            (report(json!({ "attempted_at": "yesterday" })), "/attempted_at"),
            (report(json!({ "next": { "terminate": true, "callback_at": now } })), "/next/callback_at"),
            (report(json!({ "next": { "callback_at": now.plus_s(6 * 366 * 86_400) } })), "/next/callback_at"),
            (report(json!({ "next": { "callback_note": "x" } })), "/next/callback_note"),
            (report(json!({ "next": { "callback_note": "x".repeat(2001), "callback_at": now } })), "/next/callback_note"),
            (report(json!({ "colour": "red" })), "/colour"),
        ] {
            let refused = desk.admin.post(&desk.path(), body).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{}", refused.body);
        }
        desk.admin.post(&format!("/v1/customers/{nobody}/attempts"), report(json!({}))).await.problem(404, "not_found");
        desk.admin.post("/v1/customers/by-ref/nobody/attempts", report(json!({}))).await.problem(404, "not_found");
        desk.admin.get(&format!("/v1/customers/{nobody}/attempts")).await.problem(404, "not_found");
        app.agent("anna").await.0.post(&desk.path(), report(json!({}))).await.problem(403, "forbidden");
        let customer = desk.crowd.reload(desk.customer.id).await;
        assert_eq!((customer.status, customer.attempt_count, customer.version), (CustomerStatus::Unused, 0, 1));
        let tx = app.app.db.begin().await.unwrap();
        let erased = customer::ActiveModel { id: Set(desk.customer.id), erased_at: Set(Some(now)), ..Default::default() };
        customer::Entity::update(erased).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        desk.admin.post(&desk.path(), report(json!({}))).await.problem(410, "gone");
    }

    async fn a_suspended_campaign_and_an_inactive_list_send_nothing(app) {
        let desk = one_rule(&app, json!({}), json!({ "once": false })).await;
        let id = id_of(&desk.campaign).parse().unwrap();
        desk.crowd.join(Some(id), ListState::Inactive).await;
        assert_eq!(desk.tried("1", json!({})).await, skip("list_inactive"));
        desk.admin.post(&format!("{}/suspend", desk.campaign), json!({})).await.ok();
        let second = desk.crowd.customer("C-2", json!({})).await;
        let path = format!("/v1/customers/{}/attempts", second.id);
        let suspended = desk.admin.post(&path, desk.report("1", json!({}))).await.ok();
        assert_eq!(said(&suspended), skip("campaign_not_active"));
    }

    async fn whoever_cannot_or_may_not_be_written_to_is_skipped_with_the_reason(app) {
        let desk = one_rule(&app, json!({}), json!({})).await;
        let reported = async |customer: customer::Model| {
            let path = format!("/v1/customers/{}/attempts", customer.id);
            desk.admin.post(&path, desk.report("1", json!({}))).await.ok()
        };
        let nowhere = desk.crowd.customer_at("C-2", None, json!({})).await;
        assert_eq!(said(&reported(nowhere).await), skip("no_address"));
        desk.admin.post("/v1/suppressions", json!({ "address": "c-3@example.org", "reason": "complained" })).await.ok();
        let barred = reported(desk.crowd.customer("C-3", json!({})).await).await;
        assert_eq!((said(&barred), &barred["skipped"][0]["suppressed_by"]), (skip("suppressed"), &json!("complained")));
        // Who unsubscribed still gets what belongs to something they did.
        desk.admin.post("/v1/suppressions", json!({ "address": "c-4@example.org", "reason": "unsubscribed" })).await.ok();
        assert_eq!(said(&reported(desk.crowd.customer("C-4", json!({})).await).await).0, ["A"]);
        set_account(&desk, &app, AccountState::Disabled).await;
        assert_eq!(said(&reported(desk.crowd.customer("C-5", json!({})).await).await), skip("account_not_in_use"));
    }

    async fn a_template_that_cannot_be_filled_in_is_skipped_with_the_reason(app) {
        let due = json!([{ "name": "due", "type": "number", "source": "customer.data.due", "required": true }]);
        let desk = one_rule(&app, json!({ "text": "{{ due }} {{ customer.data.city }}", "fields": due }), json!({})).await;
        assert_eq!(desk.tried("1", json!({})).await, skip("missing_field"));
        for (known_as, data, expected) in [
            ("C-2", json!({ "due": 7 }), skip("render_failed")),
            ("C-3", json!({ "due": "much", "city": "Bath" }), skip("render_failed")),
            ("C-4", json!({ "due": 7, "city": "Bath" }), (vec!["A".to_owned()], vec![])),
        ] {
            let customer = desk.crowd.customer(known_as, data).await;
            let path = format!("/v1/customers/{}/attempts", customer.id);
            assert_eq!(said(&desk.admin.post(&path, desk.report("1", json!({}))).await.ok()), expected, "{known_as}");
        }
    }

    async fn what_rules_do_not_send_yet_is_said(app) {
        let desk = one_rule(&app, json!({}), json!({})).await;
        let text = template(&desk.admin, "Text", json!({ "channel": "sms", "subject": "" })).await;
        let own = format!("/v1/lists/{}/message-rules", desk.crowd.list_id);
        desk.crowd.join(None, ListState::Active).await;
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "channel": "sms", "template_id": text }]);
        desk.admin.put(&own, json!({ "message_rules": rules })).await.ok();
        let draft = desk.admin.post("/v1/templates", json!({ "name": "Draft", "subject": "x", "text": "y" })).await.ok()["id"].clone();
        let second = desk.crowd.customer("C-2", json!({})).await;
        let reported = async |customer: &customer::Model| {
            let path = format!("/v1/customers/{}/attempts", customer.id);
            desk.admin.post(&path, desk.report("1", json!({}))).await.ok()
        };
        assert_eq!(said(&reported(&second).await), skip("no_sender_account"));
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "template_id": draft }]);
        desk.admin.put(&own, json!({ "message_rules": rules })).await.ok();
        let third = desk.crowd.customer("C-3", json!({})).await;
        assert_eq!(said(&reported(&third).await), skip("template_not_published"));
    }

    async fn a_campaign_without_a_sender_says_so(app) {
        let desk = one_rule(&app, json!({}), json!({})).await;
        another_account(&app, "other@example.com").await;
        let bare = desk.admin.post("/v1/campaigns", json!({ "name": "Bare" })).await.header("location").to_owned();
        desk.admin.post(&format!("{bare}/start"), json!({})).await.ok();
        let mail = template(&desk.admin, "Mail", json!({})).await;
        let rules = json!([{ "name": "A", "trigger": "first_attempt", "template_id": mail }]);
        desk.admin.put(&format!("/v1/lists/{}/message-rules", desk.crowd.list_id), json!({ "message_rules": rules })).await.ok();
        assert_eq!(desk.tried("1", json!({ "campaign_id": id_of(&bare) })).await, skip("no_sender_account"));
    }
}
