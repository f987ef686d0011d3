//! Mail of which the process ends while it reads it.

use postroom::id::AccountId;
use serde_json::{Value, json};

use super::mail;
use crate::support::{
    Backend, Client,
    imap_server::{FetchFault, ImapBehaviour, ImapServer},
    mailbox::{act, draft, read},
    service::{Home, Service},
    stream::EventStream,
};

/// The one that the process is killed over.
const POISON: u32 = 3;

async fn taken_in(admin: &Client, account: AccountId) -> Vec<Value> {
    let page = admin.get(&format!("/v1/messages?account_id={account}")).await.ok();
    page["items"].as_array().unwrap().clone()
}

/// Three times the process is killed while it has that mail in hand: once unnoted, twice noted. The others come in, and then it
/// does, too, unread. Mails whose batch could not be fetched before are suspects, and taken one by one anyway.
async fn is_survived(backend: Backend, suspects_first: bool) {
    let home = Home::new(backend, &[]).await;
    let server = ImapServer::start(ImapBehaviour::default()).await;
    (1..=5).for_each(|number| _ = server.append("INBOX", &mail(number)));
    let fault = if suspects_first { FetchFault::CloseInLiteral } else { FetchFault::Late };
    server.behave(|b| (b.fetch_fault, b.fault_uids) = (Some(fault), vec![POISON]));
    let mut service: Service = home.serve();
    let mut admin = service.admin().await;
    let id = draft(&admin, server.addr.port(), json!({})).await;
    act(&admin, id, "activate").await;
    if suspects_first {
        while read(&admin, id).await["health"]["suspects"] == json!([]) {
            tokio::task::yield_now().await;
        }
        server.behave(|b| b.fetch_fault = Some(FetchFault::Late));
    }
    let others = if suspects_first { [2, 2, 2] } else { [0, 2, 4] };
    for (times, others) in (1..).zip(others) {
        server.wait_until_late_times(times).await;
        assert_eq!(taken_in(&admin, id).await.len(), others);
        let suspects = read(&admin, id).await["health"]["suspects"].clone();
        let suspect = suspects.as_array().unwrap().iter().find(|suspect| suspect["uid"] == POISON);
        match (times, suspects_first) {
            (1, false) => assert_eq!(suspect, None),
            _ => assert_eq!(suspect.unwrap()["ended"], json!(times - 1)),
        }
        service.kill();
        home.expire_leases("accounts").await;
        if times == 3 {
            server.behave(|b| b.fetch_fault = None);
        }
        service = home.serve();
        admin = service.client(&admin);
    }
    comes_in_unread(&admin, id).await;
}

async fn comes_in_unread(admin: &Client, id: AccountId) {
    let mut events = EventStream::follow(admin, 0).await;
    for _ in 0..5 {
        events.wait("message.received").await;
    }
    let taken = taken_in(admin, id).await;
    assert_eq!(taken.len(), 5);
    let unread: Vec<_> = taken.iter().filter(|message| message["state"] == "unparsed").collect();
    let [unread] = unread[..] else { panic!("{taken:?}") };
    assert!(unread["state_reason"].as_str().unwrap().starts_with("unreadable: "));
    let path = format!("/v1/messages/{}", unread["id"].as_str().unwrap());
    let raw = admin.get(&format!("{path}/raw")).await.bytes;
    assert_eq!(raw, mail(POISON as usize), "byte for byte");
    admin.get(&format!("{path}/attachments/1")).await.problem(404, "not_found");
    let work = admin.get(&format!("/v1/work-items/{}", unread["work_item_id"].as_str().unwrap())).await.ok();
    assert_eq!(work["state"], "queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_ends_the_process_holds_up_no_other_and_comes_in_unread_sqlite() {
    is_survived(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_ends_the_process_holds_up_no_other_and_comes_in_unread_postgres() {
    is_survived(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_ends_the_process_comes_in_unread_sqlite() {
    is_survived(Backend::Sqlite, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_ends_the_process_comes_in_unread_postgres() {
    is_survived(Backend::Postgres, true).await;
}
