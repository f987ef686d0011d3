//! Single sends: from a template or as given, now or later, and the answers to them.

use std::time::Duration;

use postroom::{
    accounts::entity::{AccountState, Channel, account as row},
    clock::{Clock, Timestamp},
    id::SuppressionId,
    mail::parse::{Limits, parse},
    suppressions::{
        AddressKeys,
        entity::{self as suppression, SuppressionReason},
    },
};
use reqwest::Method;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::{Value, json};

use crate::{
    campaigns::Crowd,
    inbound::{account, account_in, push::objects, push_mail},
    on_both,
    support::{
        Backend, Client, Reply, TestApp,
        outbound::{send, state, timeline, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

fn order() -> Value {
    json!({
        "to": { "name": "Anna", "address": "anna@example.org" },
        "content": { "subject": "Your order", "text": "It is on its way." }
    })
}

fn with(mut body: Value, members: Value) -> Value {
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

async fn keyed(client: &Client, key: &str, body: &Value) -> Reply {
    client.send(client.request(Method::POST, "/v1/messages").header("Idempotency-Key", key).json(body)).await
}

/// A published template; gives its id.
async fn template(admin: &Client, members: Value) -> String {
    let body = json!({
        "name": "Shipped", "purpose": "general", "subject": "Order {{ number }}",
        "text": "Dear {{ to.name }}, order {{ number }} left us. {{ account.display_name }}",
        "html": "<p>Dear {{ to.name }}</p>",
        "fields": [{ "name": "number", "type": "integer", "required": true }, { "name": "note", "type": "string" }]
    });
    let made = admin.post("/v1/templates", with(body, members)).await.ok();
    let id = made["id"].as_str().unwrap();
    admin.post(&format!("/v1/templates/{id}/publish"), json!({})).await.ok();
    id.to_owned()
}

async fn count(app: &TestApp) -> usize {
    let page = app.admin().await.get("/v1/messages?direction=outbound").await.ok();
    page["items"].as_array().unwrap().len()
}

on_both! {
    async fn a_send_reaches_the_server_and_its_answer_becomes_work_in_the_same_conversation(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let account = account(&app, "support@example.com").await;
        let made = admin.post("/v1/messages", with(order(), json!({ "external_ref": "order-4711" }))).await;
        assert_eq!(made.status, 201);
        let location = made.header("location").to_owned();
        let made = made.ok();
        assert_eq!(location, format!("/v1/messages/{}", made["id"].as_str().unwrap()));
        assert_eq!((&made["state"], &made["dry_run"], &made["account_id"]), (&json!("queued"), &json!(false), &json!(account.id)));
        send(&app).await;
        let message = admin.get(&location).await.ok();
        assert_eq!((&message["state"], &message["kind"]), (&json!("sent"), &json!("direct")));
        let found = admin.get("/v1/messages?external_ref=order-4711").await.ok();
        assert_eq!(found["items"][0]["id"], made["id"]);

        let taken = &sink.received()[0];
        assert_eq!((taken.from.as_str(), taken.to.as_slice()), ("support@example.com", &["anna@example.org".to_owned()][..]));
        let mail = parse(&taken.raw, &Limits::default()).unwrap();
        assert_eq!((mail.subject.as_deref(), mail.text.as_deref().map(str::trim)), (Some("Your order"), Some("It is on its way.")));
        assert_eq!(mail.headers["auto-submitted"], ["auto-generated"]);
        assert_eq!(mail.message_id.as_deref(), made["message_id_header"].as_str());

        let conversation = admin.get(&format!("/v1/conversations/{}", made["conversation_id"].as_str().unwrap())).await.ok();
        assert_eq!((&conversation["state"], &conversation["last_agent_id"]), (&json!("waiting_customer"), &Value::Null));
        let answered = push_mail(&admin, account.id, &format!("In-Reply-To: <{}>", mail.message_id.unwrap())).await;
        assert_eq!(Some(answered.as_str()), made["conversation_id"].as_str());
        let work = admin.get(&format!("/v1/work-items?conversation_id={answered}")).await.ok();
        assert_eq!(work["items"].as_array().unwrap().len(), 1);
    }

    async fn a_template_is_rendered_with_the_variables_and_escapes_them(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        let id = template(&admin, json!({ "html": "<p>Dear {{ to.name }}: {{ note }}</p>" })).await;
        let body = json!({
            "to": { "name": "Anna", "address": "anna@example.org" }, "template_id": id,
            "variables": { "number": 4711, "note": "<b>2 < 3</b>" }
        });
        let dry = admin.post("/v1/messages", with(body.clone(), json!({ "dry_run": true }))).await;
        assert_eq!(dry.status, 200);
        let dry = dry.ok();
        assert_eq!((&dry["id"], &dry["state"], &dry["subject"]), (&Value::Null, &Value::Null, &json!("Order 4711")));
        assert_eq!(dry["html"], "<p>Dear Anna: &lt;b&gt;2 &lt; 3&lt;&#x2f;b&gt;</p>");
        assert!(dry["text"].as_str().unwrap().starts_with("Dear Anna, order 4711 left us."));
        assert_eq!(count(&app).await, 0);
        let made = admin.post("/v1/messages", body).await.ok();
        assert_eq!((&made["subject"], &made["html"], &made["template_id"]), (&dry["subject"], &dry["html"], &json!(id)));
        // There is no outgoing server: it waits for one.
        assert_eq!(made["state"], "held");
        assert_eq!(count(&app).await, 1);
    }

    async fn a_send_for_later_waits_for_its_time_and_can_be_called_off(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let later = json!({ "send_at": app.app.clock.now().plus_s(3600) });
        let first = admin.post("/v1/messages", with(order(), later.clone())).await.ok();
        let second = admin.post("/v1/messages", with(order(), later)).await.ok();
        assert_eq!((&first["state"], &second["state"]), (&json!("scheduled"), &json!("scheduled")));
        let steps = timeline(&admin, first["id"].as_str().unwrap().parse().unwrap()).await;
        assert_eq!(steps, ["created", "scheduled"]);
        send(&app).await;
        assert!(sink.received().is_empty());
        admin.post(&format!("/v1/messages/{}/cancel", second["id"].as_str().unwrap()), json!({})).await.ok();
        app.app.clock.advance(Duration::from_secs(3601));
        let admin = app.admin().await;
        send(&app).await;
        send(&app).await;
        assert_eq!(sink.received().len(), 1);
        let state = |id: &Value| format!("/v1/messages/{}", id.as_str().unwrap());
        assert_eq!(admin.get(&state(&first["id"])).await.ok()["state"], "sent");
        assert_eq!(admin.get(&state(&second["id"])).await.ok()["state"], "cancelled");
        // A time that is past means now.
        let past = json!({ "send_at": app.app.clock.now().plus_s(-60) });
        let third = admin.post("/v1/messages", with(order(), past)).await.ok();
        assert_eq!((&third["state"], &third["send_at"]), (&json!("queued"), &Value::Null));
    }

    async fn a_send_for_later_bears_the_date_at_which_it_goes_out(app) {
        let app = TestApp::frozen(app.backend).await;
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        for (send_at, dated_at) in [
            ("2026-03-05T13:00:00.000Z", "2026-03-05T13:00:00.000Z"),
            ("2026-03-01T13:00:00.000Z", "2026-03-02T09:00:00.000Z"),
        ] {
            let made = admin.post("/v1/messages", with(order(), json!({ "send_at": send_at }))).await.ok();
            let shown = admin.get(&format!("/v1/messages/{}", made["id"].as_str().unwrap())).await.ok();
            assert_eq!((&shown["dated_at"], &shown["created_at"]), (&json!(dated_at), &json!("2026-03-02T09:00:00.000Z")));
        }
        app.app.clock.advance(Duration::from_secs(4 * 86_400));
        send(&app).await;
        send(&app).await;
        let mut dates: Vec<i64> = sink.received().iter().filter_map(|mail| parse(&mail.raw, &Limits::default()).unwrap().sent_at).collect();
        dates.sort_unstable();
        let expected = ["2026-03-02T09:00:00Z", "2026-03-05T13:00:00Z"].map(|at| at.parse::<Timestamp>().unwrap().as_millis());
        assert_eq!(dates, expected);
    }

    async fn nobody_is_written_to_who_may_not_be_when_it_is_made_and_when_it_goes_out(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let before = admin.post("/v1/messages", order()).await.ok();
        let barred = admin.post("/v1/suppressions", json!({ "address": "Anna@Example.org", "note": "Asked us" })).await;
        let path = barred.header("location").to_owned();
        assert_eq!((barred.status, &barred.body["address"], &barred.body["reason"]), (201, &json!("anna@example.org"), &json!("manual")));
        let dry = admin.post("/v1/messages", with(order(), json!({ "dry_run": true }))).await.ok();
        assert_eq!(dry["suppressed_by"], "manual");
        let after = admin.post("/v1/messages", order()).await.ok();
        assert_eq!((&after["state"], &after["suppressed_by"]), (&json!("suppressed"), &json!("manual")));
        send(&app).await;
        send(&app).await;
        assert!(sink.received().is_empty());
        for made in [&before, &after] {
            let id = made["id"].as_str().unwrap();
            let message = admin.get(&format!("/v1/messages/{id}")).await.ok();
            assert_eq!((&message["state"], &message["state_reason"]), (&json!("suppressed"), &json!("the address is not to be written to")));
            let steps = timeline(&admin, id.parse().unwrap()).await;
            assert_eq!(steps.last().map(String::as_str), Some("suppressed"));
        }
        admin.delete(&path).await.ok();
        admin.post("/v1/messages", order()).await.ok();
        send(&app).await;
        assert_eq!(sink.received().len(), 1);
    }

    async fn a_suppression_is_one_for_each_address_and_ends_when_it_says(app) {
        let (admin, agent) = (app.admin().await, app.agent("anna").await.0);
        let until = app.app.clock.now().plus_s(60);
        let first = json!({ "address": "a@example.org", "reason": "unsubscribed", "expires_at": until });
        let made = admin.post("/v1/suppressions", first.clone()).await.ok();
        admin.post("/v1/suppressions", first).await.problem(409, "already_exists");
        admin.post("/v1/suppressions", json!({ "address": "b@example.org" })).await.ok();
        let list = async |query: &str| admin.get(&format!("/v1/suppressions{query}")).await.ok()["items"].as_array().unwrap().len();
        assert_eq!((list("").await, list("?reason=unsubscribed").await, list("?address=B@example.org").await), (2, 1, 1));
        assert_eq!(list("?sort=-address&limit=1").await, 1);
        // Whoever unsubscribed still gets what belongs to something they did.
        account(&app, "support@example.com").await;
        let to = json!({ "to": { "address": "a@example.org" }, "dry_run": true });
        assert_eq!(admin.post("/v1/messages", with(order(), to)).await.ok()["suppressed_by"], Value::Null);
        app.app.clock.advance(Duration::from_secs(61));
        let path = format!("/v1/suppressions/{}", made["id"].as_str().unwrap());
        assert_eq!(admin.get(&path).await.ok()["in_force"], false);
        admin.post("/v1/suppressions", json!({ "address": "a@example.org", "reason": "bounced" })).await.ok();
        admin.get(&path).await.problem(404, "not_found");
        admin.delete(&path).await.problem(404, "not_found");
        for (body, pointer) in [
            (json!({ "address": "nothing" }), "/address"),
            (json!({ "address": "c@example.org", "expires_at": until }), "/expires_at"),
            (json!({ "address": "c@example.org", "reason": "whim" }), "/reason"),
            (json!({ "address": "c@example.org", "note": "x".repeat(501) }), "/note"),
            (json!({ "reason": "manual" }), "/address"),
        ] {
            assert_eq!(admin.post("/v1/suppressions", body).await.pointers(), [pointer]);
        }
        agent.get("/v1/suppressions").await.problem(403, "forbidden");
        assert_eq!(list("").await, 2);
    }

    async fn a_send_whose_time_comes_without_a_server_is_held_until_there_is_one(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        account(&app, "support@example.com").await;
        let later = json!({ "send_at": app.app.clock.now().plus_s(60) });
        let made = admin.post("/v1/messages", with(order(), later)).await.ok();
        let path = format!("/v1/messages/{}", made["id"].as_str().unwrap());
        send(&app).await;
        assert_eq!(admin.get(&path).await.ok()["state"], "scheduled");
        app.app.clock.advance(Duration::from_secs(61));
        send(&app).await;
        assert_eq!(admin.get(&path).await.ok()["state"], "held");
        use_sink(&admin, &sink).await;
        send(&app).await;
        send(&app).await;
        assert_eq!((admin.get(&path).await.ok()["state"].clone(), sink.received().len()), (json!("sent"), 1));
    }

    async fn what_may_have_arrived_is_not_sent_again_to_who_was_suppressed_since(app) {
        let sink = SmtpSink::start(Behaviour::default()).await;
        sink.behave(|behaviour| behaviour.rules = vec![Rule::at(Stage::Dot, Act::Close).times(1)]);
        let admin = app.admin().await;
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let made = admin.post("/v1/messages", order()).await.ok();
        let id = made["id"].as_str().unwrap().parse().unwrap();
        send(&app).await;
        assert_eq!(state(&admin, id).await, "uncertain");
        admin.post("/v1/suppressions", json!({ "address": "anna@example.org", "reason": "complained" })).await.ok();
        app.app.clock.advance(Duration::from_secs(24 * 3600));
        let (admin, before) = (app.admin().await, sink.commands("MAIL"));
        send(&app).await;
        send(&app).await;
        assert_eq!((state(&admin, id).await.as_str(), sink.commands("MAIL")), ("uncertain", before));
    }

    async fn the_same_key_sends_once(app) {
        let admin = app.admin().await;
        let account = account(&app, "support@example.com").await;
        let first = keyed(&admin, "k1", &order()).await.ok();
        admin.post(&format!("/v1/accounts/{}/disable", account.id), json!({})).await.ok();
        // What was answered is answered again, whatever has changed since.
        assert_eq!(keyed(&admin, "k1", &order()).await.ok(), first);
        let other = with(order(), json!({ "external_ref": "another" }));
        keyed(&admin, "k1", &other).await.problem(422, "idempotency_key_reused");
        assert_eq!(count(&app).await, 1);
    }

    async fn what_cannot_be_sent_is_refused_and_nothing_is_kept(app) {
        let admin = app.admin().await;
        let refused = admin.post("/v1/messages", order()).await;
        assert_eq!(refused.pointers(), ["/account_id"]);
        let first = account(&app, "support@example.com").await;
        let (draft, gone) = (
            account_in(&app, "draft@example.com", AccountState::Draft).await,
            account_in(&app, "gone@example.com", AccountState::Disabled).await,
        );
        let unpublished = admin.post("/v1/templates", json!({ "name": "Draft", "purpose": "general", "subject": "x", "text": "y" })).await.ok()["id"].clone();
        let receipt = template(&admin, json!({ "name": "Receipt", "purpose": "receipt", "subject": "x", "text": "y", "html": null, "fields": [] })).await;
        let general = template(&admin, json!({})).await;
        let nobody = uuid::Uuid::now_v7();
        let of = |id: &Value| json!({ "to": { "address": "anna@example.org" }, "template_id": id });
        let content = |content: Value| with(order(), json!({ "content": content }));
        for (body, pointer) in [
            (json!({ "to": { "address": "anna@example.org" } }), "/content"),
            (with(order(), json!({ "template_id": general })), "/content"),
            (with(order(), json!({ "variables": { "a": 1 } })), "/variables"),
            (with(order(), json!({ "to": { "address": "not an address" } })), "/to/address"),
            (with(order(), json!({ "to": { "address": "anna@example.org\r\nBcc: x@example.org" } })), "/to/address"),
            (with(order(), json!({ "to": { "name": "A\nB", "address": "anna@example.org" } })), "/to/name"),
            (with(order(), json!({ "to": { "address": "support+x@example.com" } })), "/to/address"),
            (content(json!({ "subject": "a\r\nb", "text": "x" })), "/content/subject"),
            (content(json!({ "subject": "a", "text": " ", "html": "" })), "/content/text"),
            (content(json!({ "subject": " ", "text": "x" })), "/content/subject"),
            (with(order(), json!({ "account_id": nobody })), "/account_id"),
            (with(order(), json!({ "account_id": draft.id })), "/account_id"),
            (with(order(), json!({ "account_id": gone.id })), "/account_id"),
            (with(order(), json!({ "send_at": app.app.clock.now().plus_s(400 * 86_400) })), "/send_at"),
            (of(&json!(nobody)), "/template_id"),
            (of(&unpublished), "/template_id"),
            (of(&json!(receipt)), "/template_id"),
            (of(&json!(general)), "/variables/number"),
            (with(of(&json!(general)), json!({ "variables": { "number": "one" } })), "/variables/number"),
            (with(of(&json!(general)), json!({ "variables": { "number": 1, "numbre": 1 } })), "/variables/numbre"),
            (with(of(&json!(general)), json!({ "variables": { "number": 1 } })), "/variables"),
            (with(of(&json!(general)), json!({ "variables": { "to": "me" } })), "/variables/to"),
        ] {
            for body in [body.clone(), with(body, json!({ "dry_run": true }))] {
                let refused = admin.post("/v1/messages", body.clone()).await;
                assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{body}");
            }
        }
        assert_eq!(count(&app).await, 0);
        account(&app, "second@example.com").await;
        assert_eq!(admin.post("/v1/messages", order()).await.pointers(), ["/account_id"]);
        admin.post("/v1/messages", with(order(), json!({ "account_id": first.id }))).await.ok();
        let conversations = admin.get("/v1/conversations").await.ok();
        assert_eq!(conversations["items"].as_array().unwrap().len(), 1);
    }

    async fn a_template_that_needs_more_says_what(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        let id = template(&admin, json!({})).await;
        let body = json!({ "to": { "address": "anna@example.org" }, "template_id": id });
        let refused = admin.post("/v1/messages", body).await;
        assert!(refused.body["errors"][0]["detail"].as_str().unwrap().contains("`number`"), "{}", refused.body);
    }

    async fn a_customer_is_written_to_at_their_address_for_a_campaign(app) {
        let (admin, crowd) = (app.admin().await, Crowd::new(&app).await);
        let sender = account(&app, "support@example.com").await;
        account(&app, "second@example.com").await;
        let customer = crowd.customer("C-1", json!({ "due": 12.5 })).await;
        let campaign = admin.post("/v1/campaigns", json!({ "name": "Renewals", "email_account_id": sender.id })).await.ok()["id"].clone();
        let id = template(&admin, json!({ "subject": "{{ campaign.name }}", "html": null, "text": "{{ customer.name }} owes {{ due }}",
            "fields": [{ "name": "due", "type": "number", "source": "customer.data.due", "required": true }] })).await;
        let body = json!({ "customer_ref": "C-1", "campaign_id": campaign, "template_id": id, "external_ref": "order-1" });
        let made = admin.post("/v1/messages", body).await.ok();
        assert_eq!((&made["subject"], made["text"].as_str().unwrap().trim()), (&json!("Renewals"), "Kim C-1 owes 12.5"));
        assert_eq!((&made["account_id"], &made["customer_id"], &made["campaign_id"]), (&json!(sender.id), &json!(customer.id), &campaign));
        let shown = admin.get(&format!("/v1/messages/{}", made["id"].as_str().unwrap())).await.ok();
        for (member, value) in [("template_id", json!(id)), ("customer_id", json!(customer.id)), ("campaign_id", campaign.clone()), ("external_ref", json!("order-1")), ("category", json!("transactional"))] {
            assert_eq!(shown[member], value, "{member}");
        }
        let uuid = |value: &Value| value.as_str().unwrap().to_owned();
        for (query, count) in [
            ("address=C-1@Example.org".to_owned(), 1), ("address=c-2@example.org".to_owned(), 0), ("external_ref=order-1".to_owned(), 1),
            ("state=held".to_owned(), 1), ("state=sent".to_owned(), 0), (format!("customer_id={}", customer.id), 1),
            (format!("campaign_id={}", uuid(&campaign)), 1), (format!("template_id={id}"), 1), (format!("template_id={}", uuid::Uuid::now_v7()), 0),
        ] {
            let found = admin.get(&format!("/v1/messages?{query}")).await.ok();
            assert_eq!(found["items"].as_array().unwrap().len(), count, "{query}");
        }
        admin.get("/v1/messages?customer_id=x").await.problem(400, "invalid_parameter");
        // Whoever may not be written to for the campaign still gets other mail.
        let keys = AddressKeys::of(&app.app);
        let tx = app.app.db.begin().await.unwrap();
        let row = suppression::ActiveModel {
            id: Set(SuppressionId::new(app.app.clock.now())), address_key: Set(keys.key("c-1@example.org")), address: Set(None),
            channel: Set(Channel::Email), campaign_id: Set(Some(uuid(&campaign).parse().unwrap())), reason: Set(SuppressionReason::Manual),
            note: Set(None), expires_at: Set(None), created_at: Set(app.app.clock.now()),
        };
        suppression::Entity::insert(row).exec_without_returning(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let content = json!({ "customer_id": customer.id, "content": { "subject": "x", "text": "y" }, "account_id": sender.id, "dry_run": true });
        assert_eq!(admin.post("/v1/messages", content.clone()).await.ok()["suppressed_by"], Value::Null);
        assert_eq!(admin.post("/v1/messages", with(content, json!({ "campaign_id": campaign }))).await.ok()["suppressed_by"], "manual");
    }

    async fn a_customer_or_campaign_that_cannot_be_used_is_refused(app) {
        let (admin, crowd) = (app.admin().await, Crowd::new(&app).await);
        account(&app, "support@example.com").await;
        let customer = crowd.customer("C-1", json!({})).await;
        let nowhere = crowd.customer_at("C-2", None, json!({})).await;
        let campaign = admin.post("/v1/campaigns", json!({ "name": "Bare" })).await.ok()["id"].clone();
        let over = admin.post("/v1/campaigns", json!({ "name": "Over" })).await.ok()["id"].clone();
        for action in ["start", "stop"] {
            admin.post(&format!("/v1/campaigns/{}/{action}", over.as_str().unwrap()), json!({})).await.ok();
        }
        let nobody = uuid::Uuid::now_v7();
        let say = |members: Value| with(json!({ "content": { "subject": "x", "text": "y" } }), members);
        for (body, pointer, code) in [
            (say(json!({})), "/to", "required"),
            (say(json!({ "customer_id": customer.id, "customer_ref": "C-1" })), "/customer_ref", "not_both"),
            (say(json!({ "customer_id": customer.id, "to": { "address": "a@example.org" } })), "/customer_id", "not_both"),
            (say(json!({ "customer_id": nobody })), "/customer_id", "unknown_reference"),
            (say(json!({ "customer_ref": "nobody" })), "/customer_ref", "unknown_reference"),
            (say(json!({ "customer_ref": "C-2" })), "/customer_ref", "no_address"),
            (say(json!({ "customer_id": nowhere.id })), "/customer_id", "no_address"),
            (say(json!({ "customer_ref": "C-1", "campaign_id": nobody })), "/campaign_id", "unknown_reference"),
            (say(json!({ "customer_ref": "C-1", "campaign_id": campaign })), "/campaign_id", "no_sender_account"),
            (say(json!({ "customer_ref": "C-1", "campaign_id": over })), "/campaign_id", "wrong_state"),
            (say(json!({ "customer_ref": "C-1", "category": "marketing" })), "/content/text", "missing_unsubscribe"),
            (say(json!({ "customer_ref": "x".repeat(201) })), "/customer_ref", "maxLength"),
        ] {
            let refused = admin.post("/v1/messages", body.clone()).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{body}");
            if code != "maxLength" {
                assert_eq!(refused.body["errors"][0]["code"], code, "{body}");
            }
        }
        assert_eq!(count(&app).await, 0);
    }

    async fn a_batch_answers_each_message_on_its_own_and_sends_once_for_a_key(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let to = |address: &str| with(order(), json!({ "to": { "address": address } }));
        let batch = json!({ "messages": [to("a@example.org"), to("not an address"), with(to("b@example.org"), json!({ "template_id": uuid::Uuid::now_v7() })),
            with(to("c@example.org"), json!({ "dry_run": true })), with(to("d@example.org"), json!({ "external_ref": "d" }))] });
        let send_it = || admin.send(admin.request(Method::POST, "/v1/messages/batch").header("Idempotency-Key", "b1").json(&batch));
        let first = send_it().await.ok();
        assert_eq!((&first["created"], &first["refused"]), (&json!(2), &json!(2)));
        let items = first["items"].as_array().unwrap();
        let statuses: Vec<(u64, u64)> = items.iter().map(|one| (one["index"].as_u64().unwrap(), one["status"].as_u64().unwrap())).collect();
        assert_eq!(statuses, [(0, 201), (1, 422), (2, 422), (3, 200), (4, 201)]);
        assert_eq!((&items[1]["problem"]["errors"][0]["pointer"], &items[1]["message"]), (&json!("/to/address"), &Value::Null));
        assert_eq!((&items[4]["message"]["state"], &items[4]["message"]["external_ref"]), (&json!("queued"), &json!("d")));
        assert_eq!(send_it().await.ok(), first);
        for _ in 0..3 {
            send(&app).await;
        }
        let mut reached: Vec<String> = sink.received().iter().flat_map(|mail| mail.to.clone()).collect();
        reached.sort_unstable();
        assert_eq!(reached, ["a@example.org", "d@example.org"]);
    }

    async fn a_batch_is_told_what_it_says_only_of_dry_runs(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        let html = json!({ "content": { "subject": "Your order", "text": "It left.", "html": "<p>It left.</p>" } });
        let (real, dry) = (with(order(), html.clone()), with(order(), with(html, json!({ "dry_run": true }))));
        let told = admin.post("/v1/messages/batch", json!({ "messages": [real, dry] })).await.ok();
        let said = |index: usize| (told["items"][index]["message"]["text"].clone(), told["items"][index]["message"]["html"].clone());
        assert_eq!(said(0), (Value::Null, Value::Null));
        assert_eq!(said(1), (json!("It left.\n"), json!("<p>It left.</p>")));
        assert_eq!(told["items"][0]["message"]["subject"], "Your order");
        let made = admin.get(&format!("/v1/messages/{}", told["items"][0]["message"]["id"].as_str().unwrap())).await.ok();
        assert_eq!((&made["text"], &made["subject"]), (&json!("It left.\n"), &json!("Your order")));
        let conversation = admin.get(&format!("/v1/conversations/{}", made["conversation_id"].as_str().unwrap())).await.ok();
        assert_eq!((&conversation["subject"], &conversation["message_count"]), (&json!("Your order"), &json!(1)));
    }

    async fn a_batch_that_says_too_much_is_refused_from_the_first_message_that_does_not_fit_in(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        // Half a megabyte at most is what a template may come to: 64 fill the batch.
        let text = format!("{{% for _ in [1, 2, 3, 4, 5, 6, 7, 8] %}}{}{{% endfor %}}", "x".repeat(65_400));
        let id = template(&admin, json!({ "name": "Long", "subject": "x", "text": text, "html": null, "fields": [] })).await;
        let long = json!({ "to": { "address": "anna@example.org" }, "template_id": id, "dry_run": true });
        let mut messages = vec![long; 65];
        messages.push(order());
        let told = admin.post("/v1/messages/batch", json!({ "messages": messages })).await.ok();
        let items = told["items"].as_array().unwrap();
        let codes: Vec<&str> = items.iter().filter_map(|one| one["problem"]["code"].as_str()).collect();
        assert_eq!((codes.as_slice(), items[63]["status"].as_u64(), items[64]["status"].as_u64()), (&["batch_too_large"; 2][..], Some(200), Some(413)));
        assert_eq!((&told["created"], &told["refused"], count(&app).await), (&json!(0), &json!(2), 0));
        let alone = admin.post("/v1/messages/batch", json!({ "messages": messages[65..] })).await.ok();
        assert_eq!(alone["created"], 1);
    }

    async fn a_batch_that_does_not_fit_is_refused_as_a_whole(app) {
        let admin = app.admin().await;
        account(&app, "support@example.com").await;
        for (body, pointer) in [
            (json!({}), "/messages"),
            (json!({ "messages": [] }), "/messages"),
            (json!({ "messages": vec![order(); 501] }), "/messages"),
            (json!({ "messages": [order(), with(order(), json!({ "external_ref": 7 }))] }), "/messages/1/external_ref"),
        ] {
            let refused = admin.post("/v1/messages/batch", body).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]));
        }
        app.agent("anna").await.0.post("/v1/messages/batch", json!({ "messages": [order()] })).await.problem(403, "forbidden");
        assert_eq!(count(&app).await, 0);
        let full = admin.post("/v1/messages/batch", json!({ "messages": vec![order(); 500] })).await.ok();
        assert_eq!(full["created"], 500);
    }
}

/// Only PostgreSQL has locks that keep a request between its two transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mail_of_an_account_that_goes_out_of_use_meanwhile_leaves_nothing_in_the_object_store() {
    let app = TestApp::with(Backend::Postgres, Clock::system(), "[storage]\ninline_max_bytes = 0").await;
    let admin = app.admin().await;
    let (stays, goes) =
        (account(&app, "support@example.com").await, account(&app, "offers@example.com").await);
    let from = |id| with(order(), json!({ "account_id": id }));
    let batch = json!({ "messages": [from(stays.id), from(goes.id)] });
    let tx = app.app.db.begin().await.unwrap();
    tx.execute_unprepared("LOCK TABLE dkim_keys IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let disable = async {
        // It is planned, and about to be signed.
        app.wait_until_blocked().await;
        let disabled =
            row::ActiveModel { id: Set(goes.id), state: Set(AccountState::Disabled), ..Default::default() };
        row::Entity::update(disabled).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (told, ()) = tokio::join!(admin.post("/v1/messages/batch", batch), disable);
    let told = told.ok();
    assert_eq!(
        (&told["created"], &told["items"][1]["problem"]["errors"][0]["pointer"]),
        (&json!(1), &json!("/account_id"))
    );
    assert_eq!(objects(&app), 1);
}
