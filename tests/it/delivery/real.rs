//! Against the stack's Postfix.

use postroom::clock::Clock;
use serde_json::json;
use uuid::Uuid;

use crate::support::{
    Backend, TestApp,
    outbound::{Draft, delivery, send, state, timeline, use_server},
};

fn port(variable: &str) -> Option<u16> {
    let address = std::env::var(variable).ok()?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// The mail servers need root to start; `make test` has them, a quick run may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postfix_takes_mail_in_clear_and_after_starttls_and_login() {
    let (Some(smtp), Some(submission)) = (port("POSTROOM_TEST_SMTP"), port("POSTROOM_TEST_SUBMISSION"))
    else {
        println!("left out: there is no Postfix in this run");
        return;
    };
    let ca = std::env::var("POSTROOM_TEST_CA").unwrap();
    let settings = format!("[mail]\nextra_ca_file = {ca:?}");
    let app = TestApp::with(Backend::Sqlite, Clock::system(), &settings).await;
    let admin = app.admin().await;
    let customer = format!("{}@customers.test", Uuid::new_v4().simple());
    let password = std::env::var("POSTROOM_TEST_MAIL_PASSWORD").unwrap();
    let login = json!({ "host": "localhost", "port": submission, "security": "starttls", "auth": "password",
        "username": "support@example.org", "password": password });
    for server in [json!({ "port": smtp }), login] {
        use_server(&admin, server).await;
        let check = admin.post("/v1/outgoing-server/check", json!({})).await.ok();
        assert_eq!(check["ok"], true, "{check}");
        let (id, _) = Draft::to(&[&customer]).enqueue(&app.app).await;
        send(&app).await;
        assert_eq!(state(&admin, id).await, "sent", "{:?}", timeline(&admin, id).await);
        let said = delivery(&admin, id).await["state_reason"].as_str().unwrap().to_owned();
        assert!(said.contains("queued as"), "{said}");
    }
    let (id, _) =
        Draft::to(&[&customer, "rejected@customers.test", "deferred@customers.test"]).enqueue(&app.app).await;
    send(&app).await;
    let told = delivery(&admin, id).await;
    let states: Vec<_> =
        told["recipients"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(
        (told["state"].as_str(), states),
        (Some("deferred"), vec![json!("sent"), json!("failed"), json!("deferred")])
    );
}
