//! DKIM keys, and the signatures that mail leaves with.

use postroom::{
    access::audit, clock::Clock, dkim::entity as dkim_key, events::entity as event, workers::Step,
};
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder};
use serde_json::{Value, json};

use crate::{
    inbound::account,
    on_both,
    support::{
        Backend, Client, TestApp,
        dkim::{BOTH, Zone, genuine, publish, sign_for, signed_by},
        outbound::{send, use_sink},
        smtp_sink::{Act, Behaviour, Rule, SmtpSink, Stage},
    },
};

/// Made for these tests only.
const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIGE3aMmd4N/bjevbmluBYgKlLBTYysG5QkU17TRCnldX\n-----END PRIVATE KEY-----\n";
const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIGE3aMmd4N";

async fn make(admin: &Client, domain: &str, selector: &str) -> Value {
    let body = json!({ "domain": domain, "selector": selector, "algorithm": "ed25519" });
    admin.post("/v1/dkim-keys", body).await.ok()
}

fn path(key: &Value) -> String {
    format!("/v1/dkim-keys/{}", key["id"].as_str().unwrap())
}

async fn act(admin: &Client, key: &Value, action: &str) -> Value {
    admin.post(&format!("{}/{action}", path(key)), json!({})).await.ok()
}

/// Sends one mail and gives it as the server got it.
async fn mail(app: &TestApp, admin: &Client, sink: &SmtpSink, from: &Value) -> Vec<u8> {
    let before = sink.received().len();
    let body = json!({ "to": { "address": "anna@example.net" }, "account_id": from,
        "content": { "subject": "Größe – a subject that is so long that it is folded over more than one line of the header",
            "text": "Hello  Anna, \n\n.\nso it is.\n\n\n", "html": "<p>Grüße</p>" } });
    admin.post("/v1/messages", body).await.ok();
    send(app).await;
    sink.received()[before].raw.clone()
}

on_both! {
    async fn a_key_goes_from_draft_to_active_to_retired_and_is_deleted(app) {
        let admin = app.admin().await;
        let body = json!({ "domain": "Example.COM", "selector": "P1" });
        let made = admin.post("/v1/dkim-keys", body.clone()).await;
        assert_eq!((made.status, made.header("etag")), (201, "\"1\""));
        let key = made.ok();
        assert_eq!((&key["state"], &key["algorithm"], &key["domain"]), (&json!("draft"), &json!("rsa"), &json!("example.com")));
        assert_eq!(key["dns_name"], "p1._domainkey.example.com");
        let strings: Vec<&str> = key["dns_strings"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        assert_eq!((strings.len(), strings.concat().as_str()), (2, key["dns_record"].as_str().unwrap()));
        assert_eq!(key["allowed_actions"], json!(["check", "activate", "delete"]));
        admin.post(&format!("{}/retire", path(&key)), json!({})).await.problem(409, "invalid_state");
        let active = act(&admin, &key, "activate").await;
        assert_eq!((&active["state"], &active["allowed_actions"]), (&json!("active"), &json!(["check", "retire"])));
        admin.post(&format!("{}/activate", path(&key)), json!({})).await.problem(409, "invalid_state");
        admin.delete(&path(&key)).await.problem(409, "invalid_state");
        let retired = act(&admin, &key, "retire").await;
        assert_eq!(retired["state"], "retired");
        assert!(retired["retired_at"].is_string());
        assert_eq!(act(&admin, &key, "activate").await["retired_at"], Value::Null);
        act(&admin, &key, "retire").await;
        let again = admin.post("/v1/dkim-keys", body).await;
        again.problem(409, "already_exists");
        assert_eq!(again.pointers(), ["/selector"]);
        make(&admin, "example.org", "p1").await;
        let listed = async |query: &str| admin.get(&format!("/v1/dkim-keys{query}")).await.ok()["items"].as_array().unwrap().len();
        assert_eq!((listed("").await, listed("?domain=example.com").await, listed("?state=active").await), (2, 1, 0));
        assert_eq!(admin.delete(&path(&key)).await.status, 204);
        admin.get(&path(&key)).await.problem(404, "not_found");
        let events = event::Entity::find().order_by_asc(event::Column::Id).all(app.app.db.read()).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).filter(|kind| kind.starts_with("dkim_key.")).collect();
        assert_eq!(kinds, ["dkim_key.created", "dkim_key.activated", "dkim_key.retired", "dkim_key.activated", "dkim_key.retired", "dkim_key.created", "dkim_key.deleted"]);
    }

    async fn a_key_can_be_brought_along_and_its_secret_is_shown_and_stored_nowhere_in_clear(app) {
        let admin = app.admin().await;
        let body = json!({ "domain": "example.com", "selector": "old", "private_key": ED25519_PEM });
        let made = admin.post("/v1/dkim-keys", body).await;
        assert_eq!(made.status, 201);
        let key = made.body.clone();
        assert_eq!((&key["algorithm"], &key["private_key"]), (&json!("ed25519"), &Value::Null));
        act(&admin, &key, "activate").await;
        while audit::write_batch(app.app.clone()).await.unwrap() != Step::Idle {}
        let row = dkim_key::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        assert!(!row.private_key_sealed.windows(20).any(|part| part == &SECRET.as_bytes()[..20]));
        let told = [
            String::from_utf8(made.bytes).unwrap(),
            admin.get(&path(&key)).await.ok().to_string(),
            format!("{:?}", event::Entity::find().all(app.app.db.read()).await.unwrap()),
            admin.get("/v1/audit-log?limit=200").await.ok().to_string(),
            format!("{row:?}"),
        ];
        for told in told {
            assert!(told.contains("example.com") || told.contains("dkim"), "{told}");
            assert!(!told.contains(&SECRET[24..]) && !told.contains("PRIVATE"), "{told}");
        }
    }

    async fn what_is_no_key_of_a_domain_is_refused_at_its_place(app) {
        let admin = app.admin().await;
        let of = |members: Value| {
            let mut body = json!({ "domain": "example.com", "selector": "p1" });
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            body
        };
        for (members, pointer) in [
            (json!({ "domain": "localhost" }), "/domain"),
            (json!({ "domain": "a b.example" }), "/domain"),
            (json!({ "domain": "-a.example" }), "/domain"),
            (json!({ "selector": "a_b" }), "/selector"),
            (json!({ "selector": "a..b" }), "/selector"),
            (json!({ "selector": "a\r\nb" }), "/selector"),
            (json!({ "private_key": "x".repeat(60) }), "/private_key"),
            (json!({ "private_key": ED25519_PEM.replace("PRIVATE", "PUBLIC") }), "/private_key"),
            (json!({ "private_key": ED25519_PEM, "algorithm": "rsa" }), "/algorithm"),
        ] {
            let refused = admin.post("/v1/dkim-keys", of(members.clone())).await;
            assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{members}");
        }
        assert_eq!(admin.get("/v1/dkim-keys").await.ok()["items"], json!([]));
        let (agent, _) = app.agent("anna").await;
        agent.get("/v1/dkim-keys").await.problem(403, "forbidden");
        let supervisor = app.supervisor().await;
        supervisor.get("/v1/dkim-keys").await.ok();
        supervisor.post("/v1/dkim-keys", of(json!({}))).await.problem(403, "forbidden");
    }

    async fn a_repeated_idempotency_key_makes_no_second_key(app) {
        let admin = app.admin().await;
        let create = || {
            let body = json!({ "domain": "example.com", "selector": "p1", "algorithm": "ed25519" });
            admin.request(reqwest::Method::POST, "/v1/dkim-keys").header("Idempotency-Key", "k1").json(&body)
        };
        let (first, second) = (admin.send(create()).await.ok(), admin.send(create()).await.ok());
        assert_eq!(first, second);
    }

    async fn a_check_says_whether_the_key_works_has_accounts_and_is_published(app) {
        let admin = app.admin().await;
        let key = make(&admin, "example.com", "p1").await;
        let check = async |body: Value| admin.post(&format!("{}/check", path(&key)), body).await.ok();
        let steps = |report: &Value| -> Vec<(String, bool)> {
            report["steps"].as_array().unwrap().iter().map(|step| (step["name"].as_str().unwrap().to_owned(), step["ok"] == true)).collect()
        };
        let alone = check(json!({})).await;
        assert_eq!((&alone["ok"], steps(&alone)), (&json!(false), vec![("key".to_owned(), true), ("accounts".to_owned(), false)]));
        account(&app, "desk@mail.example.com").await;
        let record = key["dns_record"].as_str().unwrap();
        for (published, ok) in [
            (record.to_owned(), true),
            (format!("\"{}\" \"{}\"", &record[..20], &record[20..]), true),
            ("v=DKIM1; k=ed25519; p=".to_owned(), false),
            ("v=spf1 -all".to_owned(), false),
        ] {
            let report = check(json!({ "published": published })).await;
            assert_eq!((&report["ok"], &report["steps"][2]["ok"]), (&json!(ok), &json!(ok)), "{published}: {report}");
        }
        // As after a database was moved without its key.
        let tx = app.app.db.begin().await.unwrap();
        let id = key["id"].as_str().unwrap().parse().unwrap();
        let row = dkim_key::ActiveModel { id: Set(id), private_key_sealed: Set(vec![0; 80]), ..Default::default() };
        dkim_key::Entity::update(row).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(steps(&check(json!({})).await), [("key".to_owned(), false)]);
        admin.post(&format!("{}/activate", path(&key)), json!({})).await.problem(409, "invalid_state");
    }

    async fn mail_bears_a_genuine_signature_of_every_active_key_of_its_domain(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let from = json!(account(&app, "support@example.com").await.id);
        assert_eq!(genuine(&mail(&app, &admin, &sink, &from).await, &Zone::new()).len(), 0, "there is no key yet");
        let mut zone = sign_for(&admin, "example.com").await;
        // A draft signs nothing, nor does the key of another domain, or of one below.
        make(&admin, "example.com", "draft").await;
        for other in ["example.org", "mail.example.com"] {
            act(&admin, &make(&admin, other, "p1").await, "activate").await;
        }
        let raw = mail(&app, &admin, &sink, &from).await;
        assert_eq!(signed_by(&raw, &zone, "example.com"), BOTH);
        for tags in genuine(&raw, &zone) {
            let covered: Vec<&str> = tags["h"].split(':').collect();
            let times = |name: &str| covered.iter().filter(|one| **one == name).count();
            for name in ["from", "to", "subject", "date", "message-id", "mime-version", "content-type"] {
                assert_eq!(times(name), 2, "{name} is signed, and no second one may be added");
            }
            for name in ["cc", "reply-to", "list-unsubscribe", "list-unsubscribe-post"] {
                assert_eq!(times(name), 1, "there is no {name}, and none may be added");
            }
        }

        // One retired, one new: at once.
        let keys = admin.get("/v1/dkim-keys?domain=example.com&state=active").await.ok();
        let rsa = keys["items"].as_array().unwrap().iter().find(|key| key["algorithm"] == "rsa").unwrap().clone();
        act(&admin, &rsa, "retire").await;
        assert_eq!(signed_by(&mail(&app, &admin, &sink, &from).await, &zone, "example.com"), ["ed25519-sha256"]);
        let next = make(&admin, "example.com", "p2").await;
        publish(&mut zone, &next);
        act(&admin, &next, "activate").await;
        assert_eq!(signed_by(&mail(&app, &admin, &sink, &from).await, &zone, "example.com"), ["ed25519-sha256"; 2]);
    }

    async fn mail_of_a_domain_without_a_key_is_signed_by_the_nearest_domain_above(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        let from = json!(account(&app, "support@a.mail.example.com").await.id);
        let mut zone = Zone::new();
        for domain in ["example.com", "mail.example.com", "b.mail.example.com"] {
            let key = make(&admin, domain, "p1").await;
            publish(&mut zone, &key);
            act(&admin, &key, "activate").await;
        }
        assert_eq!(signed_by(&mail(&app, &admin, &sink, &from).await, &zone, "mail.example.com"), ["ed25519-sha256"]);
    }

    async fn a_message_that_is_sent_again_is_signed_anew(app) {
        let refusing = Behaviour::with(Rule::at(Stage::Rcpt, Act::Reply("550 5.7.1 not now")).times(1));
        let (admin, sink) = (app.admin().await, SmtpSink::start(refusing).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let zone = sign_for(&admin, "example.com").await;
        let body = json!({ "to": { "address": "anna@example.net" }, "content": { "subject": "Order", "text": "It left." } });
        let made = admin.post("/v1/messages", body).await.ok();
        send(&app).await;
        assert_eq!(sink.received().len(), 0);
        admin.post(&format!("/v1/messages/{}/retry", made["id"].as_str().unwrap()), json!({})).await.ok();
        send(&app).await;
        let raw = sink.received()[0].raw.clone();
        assert_eq!(signed_by(&raw, &zone, "example.com"), BOTH);
        assert!(!String::from_utf8(raw).unwrap().contains(made["message_id_header"].as_str().unwrap()));
    }

    async fn the_outgoing_servers_test_mail_is_signed_too(app) {
        let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
        use_sink(&admin, &sink).await;
        account(&app, "support@example.com").await;
        let zone = sign_for(&admin, "example.com").await;
        let report = admin.post("/v1/outgoing-server/send-test", json!({ "to": "admin@example.net" })).await.ok();
        assert_eq!(report["sent"], true, "{report}");
        assert_eq!(signed_by(&sink.received()[0].raw, &zone, "example.com"), BOTH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_replica_activates_signs_the_mail_of_the_other() {
    let app = TestApp::with(Backend::Postgres, Clock::system(), "").await;
    let other = app.replica().await;
    let (admin, sink) = (app.admin().await, SmtpSink::start(Behaviour::default()).await);
    use_sink(&admin, &sink).await;
    let from = json!(account(&app, "support@example.com").await.id);
    let there = other.admin().await;
    assert_eq!(genuine(&mail(&other, &there, &sink, &from).await, &Zone::new()).len(), 0);
    let zone = sign_for(&admin, "example.com").await;
    assert_eq!(signed_by(&mail(&other, &there, &sink, &from).await, &zone, "example.com"), BOTH);
}
