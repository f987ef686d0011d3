//! What polling costs.

use serde_json::json;

use super::polled;
use crate::support::{
    imap_server::{ImapBehaviour, ImapServer},
    mailbox::{Events, act, draft, raws},
};

fn large(number: usize) -> Vec<u8> {
    let mut raw = super::mail(number);
    raw.resize(10_000, b'x');
    raw
}

polled! {
    async fn hardly_more_bytes_than_the_mail_itself_cross_the_wire(app) {
        let (admin, server) = (app.admin().await, ImapServer::start(ImapBehaviour::default()).await);
        (0..60).for_each(|number| _ = server.append("INBOX", &large(number)));
        let mut events = Events::of(&app);
        let id = draft(&admin, server.addr.port(), json!({})).await;
        act(&admin, id, "activate").await;
        events.wait("account.connected").await;
        server.wait_until_idling().await;
        for number in 60..70 {
            server.append("INBOX", &large(number));
            events.wait("message.received").await;
        }
        let taken = raws(&app, id).await;
        assert_eq!((taken.len(), server.logins()), (70, 1));
        assert!(server.bytes_sent() * 100 < 70 * 10_000 * 105, "{} bytes", server.bytes_sent());
    }
}
