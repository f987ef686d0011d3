//! What the mails say, read back by our parser and by another.

use mail_parser::MessageParser;
use postroom::{
    accounts::entity::account,
    mail::parse::{Limits, parse},
};
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::json;

use super::{Desk, addresses};
use crate::{
    inbound::{account, push, signer},
    on_both,
};

on_both! {
    async fn a_reply_is_threaded_marked_and_readable_by_any_parser(app) {
        let desk = Desk::new(&app).await;
        let (sent, raw) = desk.sent("reply", json!({ "html": "<p>It is <b>on its way</b>.<script>x()</script></p>" })).await;
        assert_eq!((sent["kind"].as_str(), sent["state"].as_str()), (Some("reply"), Some("held")));
        let ours = parse(&raw, &Limits::default()).unwrap();
        let theirs = MessageParser::default().parse(&raw).unwrap();
        let id = sent["message_id_header"].as_str().unwrap();
        assert_eq!((ours.message_id.as_deref(), theirs.message_id()), (Some(id), Some(id)));
        let token = signer(&app).verify(id).unwrap();
        assert_eq!(token.conversation.to_string(), desk.conversation);
        assert_eq!(token.message.unwrap().to_string(), sent["message_id"].as_str().unwrap());
        assert_eq!((ours.in_reply_to, ours.references), (vec!["c1@example.org".to_owned()], vec!["c1@example.org".to_owned()]));
        assert_eq!(theirs.in_reply_to().as_text(), Some("c1@example.org"));
        assert_eq!(theirs.subject(), Some("Re: Where is my order?"));
        assert_eq!(theirs.from().unwrap().first().unwrap().address(), Some("support@example.com"));
        assert_eq!(theirs.to().unwrap().first().unwrap().address(), Some("anna@example.org"));
        assert!(theirs.reply_to().is_none() && theirs.header_raw("Auto-Submitted").is_none());
        assert!(!theirs.header_raw("X-Postroom-Loop").unwrap().trim().is_empty());
        let html = theirs.body_html(0).unwrap();
        assert!(html.contains("<b>on its way</b>") && !html.contains("script"), "{html}");
        assert_eq!(ours.new_text.as_deref(), Some("It is on its way."));
        assert!(ours.quoted_text.unwrap().contains("> It was due on Monday."));
    }

    async fn an_answer_leaves_the_conversation_with_the_customer_and_the_item_answered(app) {
        let desk = Desk::new(&app).await;
        let sent = desk.reply("reply", json!({})).await.ok();
        let conversation = desk.admin.get(&format!("/v1/conversations/{}", desk.conversation)).await.ok();
        assert_eq!((&conversation["state"], &conversation["last_message_id"]), (&json!("waiting_customer"), &sent["message_id"]));
        assert_eq!(conversation["message_count"], 2);
        let item = desk.admin.get(&format!("/v1/work-items/{}", desk.item)).await.ok();
        assert_eq!(item["state"], "assigned");
        assert!(item["first_answered_at"].is_string(), "{item}");
        let kinds: Vec<_> = desk.admin.get("/v1/events?limit=200").await.ok()["items"].as_array().unwrap().iter()
            .map(|event| event["kind"].as_str().or(event["type"].as_str()).unwrap_or_default().to_owned()).collect();
        for kind in ["message.held", "conversation.updated", "work_item.answered"] {
            assert!(kinds.iter().any(|seen| seen == kind), "{kind} is not in {kinds:?}");
        }
    }

    async fn a_chain_of_three_keeps_all_its_references(app) {
        let desk = Desk::new(&app).await;
        let (first, _) = desk.sent("reply", json!({})).await;
        let ours = first["message_id_header"].as_str().unwrap();
        let again = format!("From: anna@example.org\r\nTo: support@example.com\r\nMessage-ID: <c2@example.org>\r\n\
            In-Reply-To: <{ours}>\r\nReferences: <c1@example.org> <{ours}>\r\nSubject: Re: Where is my order?\r\n\r\nStill nothing.\r\n");
        assert_eq!(push(&desk.admin, desk.account.id, again).await.ok()["conversation_id"], desk.conversation.as_str());
        desk.assign(&app, desk.agent_id).await;
        let (_, raw) = desk.sent("reply", json!({})).await;
        let mail = parse(&raw, &Limits::default()).unwrap();
        assert_eq!(mail.in_reply_to, ["c2@example.org"]);
        assert_eq!(mail.references, ["c1@example.org", ours, "c2@example.org"]);
        assert_eq!(mail.subject.as_deref(), Some("Re: Where is my order?"));
    }

    async fn a_reply_to_all_keeps_everybody_but_ourselves(app) {
        account(&app, "sales@example.com").await;
        let desk = Desk::with(&app, "From: anna@example.org\r\nTo: Support@Example.com, ben@example.org\r\n\
            Cc: sales@example.com, support+vip@example.com, cara@example.org, Anna <anna@example.org>\r\nSubject: x\r\n\r\nHello\r\n").await;
        let template = desk.agent.get(&desk.path("reply-template?kind=reply_all")).await.ok();
        let (sent, raw) = desk.sent("reply-all", json!({})).await;
        for answer in [&template, &sent] {
            assert_eq!(addresses(&answer["to"]), ["anna@example.org"]);
            assert_eq!(addresses(&answer["cc"]), ["ben@example.org", "cara@example.org"]);
        }
        let header = String::from_utf8_lossy(&raw).split("\r\n\r\n").next().unwrap().to_owned();
        assert!(!header.contains("sales@example.com") && !header.contains("+vip"), "{header}");
    }

    async fn reply_to_goes_before_from_and_overrides_before_both(app) {
        let desk = Desk::with(&app, "From: shop@example.net\r\nReply-To: Anna <anna@example.org>\r\nSubject: x\r\n\r\nHello\r\n").await;
        let (sent, _) = desk.sent("reply", json!({})).await;
        assert_eq!(addresses(&sent["to"]), ["anna@example.org"]);
        let chosen = json!({ "to": [{ "name": "Ben", "address": "ben@example.org" }], "bcc": [{ "address": "cara@example.org" }], "subject": "Other" });
        let (sent, raw) = desk.sent("reply", chosen).await;
        assert_eq!((addresses(&sent["to"]), addresses(&sent["bcc"])), (vec!["ben@example.org".into()], vec!["cara@example.org".into()]));
        let text = String::from_utf8_lossy(&raw);
        assert!(text.contains("Subject: Other\r\n") && !text.contains("cara@example.org"), "{text}");
    }

    async fn the_signature_and_the_quote_are_put_below_unless_they_are_not_wanted(app) {
        let desk = Desk::new(&app).await;
        let tx = app.app.db.begin().await.unwrap();
        let signed = account::ActiveModel { id: Set(desk.account.id), signature_text: Set("Support team".into()), ..Default::default() };
        account::Entity::update(signed).exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let (_, raw) = desk.sent("reply", json!({ "html": "<p>Yes</p>" })).await;
        let mail = parse(&raw, &Limits::default()).unwrap();
        assert_eq!(mail.signature.as_deref().map(str::trim), Some("-- \nSupport team"));
        assert!(mail.html.unwrap().contains("<p>Support team</p>"));
        let (_, raw) = desk.sent("reply", json!({ "quote": false, "include_signature": false })).await;
        assert_eq!(parse(&raw, &Limits::default()).unwrap().text.as_deref().map(str::trim), Some("It is on its way."));
    }

    async fn nobody_to_answer_and_headers_in_disguise_are_refused_and_change_nothing(app) {
        let desk = Desk::with(&app, "Subject: nobody\r\n\r\nHello\r\n").await;
        desk.reply("reply", json!({})).await.problem(422, "no_recipients");
        let to = json!([{ "address": "anna@example.org" }]);
        let cases = [
            (json!({ "to": to, "subject": "x\r\nBcc: spy@example.net" }), "/subject"),
            (json!({ "to": [{ "name": "x\nBcc: spy@example.net", "address": "anna@example.org" }] }), "/to/0/name"),
            (json!({ "to": [{ "address": "anna@example.org\r\nBcc: spy@example.net" }] }), "/to/0/address"),
            (json!({ "to": [{ "address": "anna@" }] }), "/to/0/address"),
            (json!({ "to": to, "cc": [{ "address": "Support+x@example.com" }] }), "/cc/0/address"),
            (json!({ "to": to, "text": " " }), "/text"),
            (json!({ "to": to, "outcome_code": "solved" }), "/outcome_code"),
        ];
        for (more, pointer) in cases {
            let refused = desk.reply("reply", more).await;
            refused.problem(422, "validation_failed");
            assert_eq!(refused.pointers(), [pointer]);
        }
        assert_eq!(desk.messages().await.len(), 1);
    }
}
