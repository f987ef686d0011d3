//! Reading conversations and messages, and who may.

use postroom::{
    accounts::entity::{Channel, account},
    agents::entity::{AgentState, agent},
    clock::Timestamp,
    conversations::entity::message,
    id::{MessageId, OfferId, UserId, WorkItemId},
    work::entity::{OfferState, WorkState, offer, work_item},
};
use sea_orm::{EntityTrait, IntoActiveModel};
use serde_json::{Value, json};

use crate::{
    inbound::{account, fixture, push, push_mail},
    on_both,
    support::{Client, TestApp},
};

/// A work item of a message's conversation.
async fn work_item(app: &TestApp, message: &Value, state: WorkState, agent: Option<UserId>) -> WorkItemId {
    let now = app.app.clock.now();
    let id: MessageId = message["id"].as_str().unwrap().parse().unwrap();
    let message = message::Entity::find_by_id(id).one(app.app.db.read()).await.unwrap().unwrap();
    let row = work_item::Model {
        id: WorkItemId::new(now),
        conversation_id: message.conversation_id,
        account_id: message.account_id,
        channel: Channel::Email,
        state,
        subject: String::new(),
        customer_name: None,
        customer_address: None,
        first_message_id: id,
        last_message_id: id,
        message_count: 1,
        class_id: None,
        priority: 5,
        queue_id: None,
        group_id: None,
        target_agent_id: None,
        required_skills: json!([]),
        queued_at: None,
        rank: 0,
        lane: String::new(),
        run_continues: false,
        assigned_agent_id: agent,
        last_agent_id: None,
        declined_by: json!([]),
        script_version_id: None,
        run: None,
        error: None,
        result: None,
        outcome_code: None,
        timer: None,
        due_at: None,
        lease_until: Timestamp::ZERO,
        attempts: 0,
        first_queued_at: None,
        assigned_at: None,
        first_assigned_at: None,
        first_answered_at: None,
        completed_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let tx = app.app.db.begin().await.unwrap();
    let open = work_item::Entity::delete_many();
    use sea_orm::{ColumnTrait, QueryFilter};
    open.filter(work_item::Column::ConversationId.eq(message.conversation_id)).exec(&*tx).await.unwrap();
    let id = row.id;
    work_item::Entity::insert(row.into_active_model()).exec_without_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// An offer of an item to an agent.
async fn offer(app: &TestApp, work_item_id: WorkItemId, agent_id: UserId, state: OfferState) {
    let now = app.app.clock.now();
    let tx = app.app.db.begin().await.unwrap();
    if agent::Entity::find_by_id(agent_id).one(&*tx).await.unwrap().is_none() {
        let row = agent::Model {
            id: agent_id,
            state: AgentState::Ready,
            reason: None,
            state_changed_at: now,
            idle_since: now,
            last_offered_at: now,
            capacity_email: None,
            capacity_sms: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        agent::Entity::insert(row.into_active_model()).exec_without_returning(&*tx).await.unwrap();
    }
    let row = offer::Model {
        id: OfferId::new(now),
        work_item_id,
        agent_id,
        queue_id: None,
        state,
        reason: None,
        created_at: now,
        expires_at: now.plus_s(30),
        settled_at: None,
    };
    offer::Entity::insert(row.into_active_model()).exec_without_returning(&*tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Pushes a mail and gives its summary.
async fn pushed(client: &Client, account: &account::Model, raw: impl Into<Vec<u8>>) -> Value {
    push(client, account.id, raw).await.ok()["message"].clone()
}

/// Pushes a mail and gives its path.
async fn path_of(client: &Client, account: &account::Model, raw: impl Into<Vec<u8>>) -> String {
    format!("/v1/messages/{}", pushed(client, account, raw).await["id"].as_str().unwrap())
}

async fn ids(client: &Client, path: &str) -> Vec<String> {
    let page = client.get(path).await.ok();
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn conversations_are_found_by_account_state_customer_and_agent(app) {
        let admin = app.admin().await;
        let (sales, support) = (account(&app, "sales@example.com").await, account(&app, "support@example.com").await);
        let one = push_mail(&admin, sales.id, "Message-ID: <1@x>").await;
        let raw = "From: Ben <Ben@Example.NET>\r\nMessage-ID: <2@x>\r\nSubject: b\r\n\r\nx";
        let ben = pushed(&admin, &support, raw).await;
        let two = ben["conversation_id"].as_str().unwrap().to_owned();
        let (_, agent) = app.agent("anna").await;
        work_item(&app, &ben, WorkState::Completed, Some(agent)).await;
        admin.post(&format!("/v1/conversations/{two}/close"), json!({})).await.ok();
        for (query, expected) in [
            (format!("account_id={}", sales.id), vec![&one]),
            ("state=closed".into(), vec![&two]),
            ("customer_address=BEN@example.net".into(), vec![&two]),
            (format!("agent_id={agent}"), vec![&two]),
            ("sort=last_message_at".into(), vec![&one, &two]),
            ("sort=-last_message_at".into(), vec![&two, &one]),
            ("state=open&customer_address=ben@example.net".into(), vec![]),
        ] {
            assert_eq!(ids(&admin, &format!("/v1/conversations?{query}")).await, expected.into_iter().cloned().collect::<Vec<_>>(), "{query}");
        }
        admin.get("/v1/conversations?state=lost").await.problem(400, "invalid_parameter");
    }

    async fn messages_are_found_by_what_they_are(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let one = pushed(&admin, &account, "From: a@example.org\r\nMessage-ID: <1@x>\r\nSubject: a\r\n\r\nx").await;
        let two = pushed(&admin, &account, "From: b@example.org\r\nIn-Reply-To: <1@x>\r\nAuto-Submitted: auto-replied\r\n\r\nx").await;
        let three = pushed(&admin, &account, " \r\n").await;
        let id = |message: &Value| message["id"].as_str().unwrap().to_owned();
        let [one_id, two_id, three_id] = [&one, &two, &three].map(id);
        let conversation = one["conversation_id"].as_str().unwrap();
        for (query, expected) in [
            (String::new(), vec![&one_id, &two_id, &three_id]),
            ("sort=-id".into(), vec![&three_id, &two_id, &one_id]),
            (format!("conversation_id={conversation}"), vec![&one_id, &two_id]),
            ("from=b@example.org".into(), vec![&two_id]),
            ("classification=auto_reply".into(), vec![&two_id]),
            ("state=unparsed".into(), vec![&three_id]),
            ("direction=outbound".into(), vec![]),
            ("external_ref=crm-1".into(), vec![]),
            (format!("account_id={}", account.id), vec![&one_id, &two_id, &three_id]),
        ] {
            assert_eq!(ids(&admin, &format!("/v1/messages?{query}")).await, expected.into_iter().cloned().collect::<Vec<_>>(), "{query}");
        }
        assert_eq!(ids(&admin, &format!("/v1/conversations/{conversation}/messages")).await, [one_id, two_id]);
    }

    async fn a_message_is_read_in_its_pieces(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let raw = "From: Anna <anna@example.org>\r\nTo: Support <support@example.com>\r\nCc: ben@example.net\r\n\
            Reply-To: desk@example.org\r\nMessage-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\nSubject: Re: a\r\n\r\n\
            It is late.\r\n\r\n-- \r\nAnna\r\n";
        let message = admin.get(&path_of(&admin, &account, raw).await).await.ok();
        assert_eq!((&message["new_text"], &message["signature"]), (&json!("It is late."), &json!("-- \nAnna")));
        assert_eq!((&message["html"], &message["blocked_images"]), (&json!(null), &json!(0)));
        assert_eq!(message["to"], json!([{ "name": "Support", "address": "support@example.com" }]));
        assert_eq!(message["reply_to"], json!([{ "name": null, "address": "desk@example.org" }]));
        assert_eq!((&message["in_reply_to"], &message["message_id_header"]), (&json!(["1@x"]), &json!("2@x")));
    }

    async fn html_is_shown_safe_and_without_remote_images(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let raw = "Subject: a\r\nContent-Type: multipart/related; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n\
            <p onclick=x()>Hi<script>alert(1)</script><img src=\"https://track.example/p.gif\"><img src=\"cid:logo@x\"></p>\r\n\
            --b\r\nContent-Type: image/png\r\nContent-ID: <logo@x>\r\n\r\nPNG\r\n--b--\r\n";
        let path = path_of(&admin, &account, raw).await;
        let blocked = admin.get(&path).await.ok();
        let html = blocked["html"].as_str().unwrap();
        assert!(!html.contains("script") && !html.contains("onclick") && !html.contains("track.example"), "{html}");
        assert_eq!(blocked["blocked_images"], 1);
        let picture = format!("{path}/attachments/1?inline=true");
        assert!(html.contains(&picture), "{html}");
        let allowed = admin.get(&format!("{path}?images=allowed")).await.ok();
        assert!(allowed["html"].as_str().unwrap().contains("https://track.example/p.gif"));
        let shown = admin.get(&picture).await;
        assert_eq!((shown.header("content-type"), shown.bytes.as_slice()), ("image/png", b"PNG".as_slice()));
        assert!(shown.header("content-disposition").starts_with("inline"));
        assert_eq!(shown.header("content-security-policy"), "default-src 'none'; sandbox");
    }

    async fn attachments_are_downloads_under_harmless_names(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let part = |header: &str| format!("--b\r\n{header}\r\nContent-Transfer-Encoding: base64\r\n\r\nPHNjcmlwdD4=\r\n");
        let raw = ["Subject: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n",
            &part("Content-Type: text/html\r\nContent-Disposition: attachment; filename=\"../../evil.html\""),
            &part("Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=UTF-8''%C3%9C%0D%0ASet-Cookie%3A%20a.pdf"),
            &part("Content-Type: image/svg+xml\r\nContent-Disposition: attachment; filename=\"a\\\"; filename=b.exe\""),
            "--b--\r\n"].concat();
        let path = path_of(&admin, &account, raw).await;
        let listed = admin.get(&path).await.ok()["attachments"].clone();
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["size_bytes"]), (3, &json!(8)));
        assert_eq!(listed[0]["url"], format!("{path}/attachments/1"));
        for number in 1..=3 {
            let file = admin.get(&format!("{path}/attachments/{number}?inline=true")).await;
            assert_eq!((file.status, file.bytes.as_slice()), (200, b"<script>".as_slice()));
            let disposition = file.header("content-disposition");
            assert!(disposition.starts_with("attachment; filename=\""), "{disposition}");
            assert!(!disposition.contains("..") && !disposition.contains('/'), "{disposition}");
            assert_eq!(disposition.matches("filename=\"").count(), 1, "{disposition}");
            assert_eq!(file.header("x-content-type-options"), "nosniff");
            assert!(!file.headers.contains_key("set-cookie"));
        }
        for number in ["0", "4", "4294967295"] {
            admin.get(&format!("{path}/attachments/{number}")).await.problem(404, "not_found");
        }
        admin.get(&format!("{path}/attachments/-1")).await.problem(400, "invalid_parameter");
        admin.get(&format!("{path}/attachments/x")).await.problem(400, "invalid_parameter");
    }

    async fn the_attachments_of_the_fixtures_can_be_downloaded(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        for name in ["rfc2231_filenames.eml", "winmail_dat.eml", "inline_cid_image.eml", "calendar_invite.eml", "forwarded_message.eml"] {
            let path = path_of(&admin, &account, fixture(name)).await;
            let listed = admin.get(&path).await.ok()["attachments"].clone();
            for part in listed.as_array().unwrap() {
                let file = admin.get(part["url"].as_str().unwrap()).await;
                assert_eq!((file.status, file.bytes.len()), (200, usize::try_from(part["size_bytes"].as_u64().unwrap()).unwrap()), "{name}");
            }
        }
    }

    async fn an_agent_sees_only_what_it_has_or_had_work_in(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let (client, agent) = app.agent("anna").await;
        let (_, other) = app.agent("ben").await;
        let mut mails = Vec::new();
        for number in 0..7 {
            mails.push(pushed(&admin, &account, format!("Message-ID: <{number}@x>\r\nSubject: a\r\n\r\nx")).await);
        }
        work_item(&app, &mails[0], WorkState::Assigned, Some(agent)).await;
        work_item(&app, &mails[1], WorkState::Completed, Some(agent)).await;
        let pending = work_item(&app, &mails[2], WorkState::Offered, None).await;
        offer(&app, pending, agent, OfferState::Pending).await;
        let went_on = work_item(&app, &mails[3], WorkState::Assigned, Some(other)).await;
        offer(&app, went_on, agent, OfferState::Accepted).await;
        let refused = work_item(&app, &mails[4], WorkState::Queued, None).await;
        offer(&app, refused, agent, OfferState::Rejected).await;
        work_item(&app, &mails[5], WorkState::Assigned, Some(other)).await;
        let seen: Vec<_> = mails[..4].iter().map(|mail| mail["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids(&client, "/v1/messages").await, seen);
        assert_eq!(ids(&client, "/v1/conversations").await.len(), 4);
        for (at, mail) in mails.iter().enumerate() {
            let message = format!("/v1/messages/{}", mail["id"].as_str().unwrap());
            let conversation = format!("/v1/conversations/{}", mail["conversation_id"].as_str().unwrap());
            for path in [message.clone(), format!("{message}/raw"), conversation.clone(), format!("{conversation}/messages")] {
                let reply = client.get(&path).await;
                if at < 4 { assert_eq!(reply.status, 200, "{at} {path}") } else { reply.problem(404, "not_found") }
            }
            client.get(&format!("{message}/attachments/1")).await.problem(404, "not_found");
            let close = client.post(&format!("{conversation}/close"), json!({})).await;
            if at >= 4 { close.problem(404, "not_found") }
        }
        assert_eq!(ids(&app.supervisor().await, "/v1/messages").await.len(), 7);
    }

    async fn a_conversation_is_closed_only_when_no_work_is_open(app) {
        let (admin, account) = (app.admin().await, account(&app, "support@example.com").await);
        let mail = pushed(&admin, &account, "Message-ID: <1@x>\r\nSubject: a\r\n\r\nx").await;
        let path = format!("/v1/conversations/{}", mail["conversation_id"].as_str().unwrap());
        let close = async || admin.post(&format!("{path}/close"), json!({})).await;
        let buttons = async || {
            let (one, list) = (admin.get(&path).await.ok(), admin.get("/v1/conversations").await.ok());
            assert_eq!(one["allowed_actions"], list["items"][0]["allowed_actions"]);
            one["allowed_actions"].clone()
        };
        work_item(&app, &mail, WorkState::Queued, None).await;
        assert_eq!(buttons().await, json!([]));
        close().await.problem(409, "invalid_state");
        work_item(&app, &mail, WorkState::Completed, None).await;
        assert_eq!(buttons().await, json!(["close"]));
        let closed = close().await.ok();
        assert_eq!((&closed["state"], &closed["allowed_actions"]), (&json!("closed"), &json!([])));
        assert_eq!(buttons().await, json!([]));
        close().await.problem(409, "invalid_state");
        let unknown = format!("/v1/conversations/{}/close", WorkItemId::new(app.app.clock.now()));
        admin.post(&unknown, json!({})).await.problem(404, "not_found");
    }
}
