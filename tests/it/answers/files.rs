//! Uploads, attachments and forwards.

use postroom::mail::parse::{Limits, attachment, parse};
use serde_json::json;

use super::{Desk, addresses};
use crate::{
    on_both,
    support::{Backend, TestApp},
};
use postroom::clock::Clock;

const PDF: &[u8] = b"%PDF-1.4 \x00\x01\xff\r\n.\r\nend";

fn with_file() -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("From: Anna <anna@example.org>\r\nTo: support@example.com\r\nDate: Mon, 2 Mar 2026 08:00:00 +0000\r\nSubject: Invoice\r\n\
        Message-ID: <c1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
        Content-Type: text/plain\r\n\r\nSee the file.\r\n--b\r\nContent-Type: application/pdf\r\n\
        Content-Disposition: attachment; filename=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        STANDARD.encode(PDF)).into_bytes()
}

on_both! {
    async fn a_forward_carries_the_words_and_the_files_byte_for_byte(app) {
        let desk = Desk::with(&app, with_file()).await;
        let body = json!({ "to": [{ "address": "ben@example.net" }], "text": "Please look." });
        let sent = desk.agent.post(&desk.path("forward"), body).await.ok();
        assert_eq!((&sent["kind"], &sent["subject"]), (&json!("forward"), &json!("Fwd: Invoice")));
        assert_eq!(addresses(&sent["to"]), ["ben@example.net"]);
        let raw = desk.raw(&sent).await;
        let mail = parse(&raw, &Limits::default()).unwrap();
        assert_eq!((mail.in_reply_to.len(), mail.references.as_slice()), (0, &["c1@example.org".to_owned()][..]));
        let text = mail.text.unwrap();
        for part in ["Please look.", "From: Anna <anna@example.org>", "Date: 2026-03-02 08:00 UTC", "Subject: Invoice", "See the file."] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(mail.attachments[0].filename.as_deref(), Some("invoice.pdf"));
        assert_eq!(attachment(&raw, 0).unwrap().bytes, PDF);
        let conversation = desk.admin.get(&format!("/v1/conversations/{}", desk.conversation)).await.ok();
        assert_eq!(conversation["state"], "open");
        let bare = json!({ "to": [{ "address": "ben@example.net" }], "include_attachments": false, "quote": false, "text": "x" });
        let sent = desk.agent.post(&desk.path("forward"), bare).await.ok();
        let mail = parse(&desk.raw(&sent).await, &Limits::default()).unwrap();
        assert_eq!((mail.attachments.len(), mail.text.as_deref().map(str::trim)), (0, Some("x")));
        desk.agent.post(&desk.path("forward"), json!({ "to": [] })).await.problem(422, "no_recipients");
    }

    async fn an_upload_goes_out_once_and_only_with_its_owner(app) {
        let desk = Desk::new(&app).await;
        let (stranger, _) = app.agent("otto").await;
        let upload = desk.upload(&desk.agent, "photo.png", "image/png", PDF.to_vec()).await;
        let path = upload.header("location").to_owned();
        let upload = upload.ok();
        assert_eq!((&upload["filename"], &upload["content_type"], &upload["size_bytes"]), (&json!("photo.png"), &json!("image/png"), &json!(PDF.len())));
        stranger.get(&path).await.problem(404, "not_found");
        stranger.delete(&path).await.problem(404, "not_found");
        let theirs = desk.upload(&stranger, "x.txt", "text/plain", b"x".to_vec()).await.ok();
        let refused = desk.reply("reply", json!({ "attachment_ids": [upload["id"], theirs["id"]] })).await;
        refused.problem(422, "unknown_reference");
        assert_eq!(refused.pointers(), ["/attachment_ids/1"]);
        let html = format!("<p><img src=\"cid:{}\"></p>", upload["id"].as_str().unwrap());
        let (_, raw) = desk.sent("reply", json!({ "attachment_ids": [upload["id"]], "html": html })).await;
        let mail = parse(&raw, &Limits::default()).unwrap();
        assert_eq!(mail.attachments[0].content_id.as_deref(), upload["id"].as_str());
        assert_eq!(attachment(&raw, 0).unwrap().bytes, PDF);
        desk.agent.get(&path).await.problem(404, "not_found");
        desk.reply("reply", json!({ "attachment_ids": [upload["id"]] })).await.problem(422, "unknown_reference");
    }

    async fn an_upload_needs_a_file_name_and_a_media_type_and_can_be_deleted(app) {
        let desk = Desk::new(&app).await;
        desk.upload(&desk.agent, "a%2Fb", "text/plain", b"x".to_vec()).await.problem(400, "invalid_parameter");
        desk.upload(&desk.agent, "", "text/plain", b"x".to_vec()).await.problem(400, "invalid_parameter");
        desk.upload(&desk.agent, "a", "multipart/form-data", b"x".to_vec()).await.problem(415, "unsupported_media_type");
        desk.upload(&desk.agent, "a", "nonsense", b"x".to_vec()).await.problem(415, "unsupported_media_type");
        let path = desk.upload(&desk.agent, "a", "text/plain", b"x".to_vec()).await.header("location").to_owned();
        assert_eq!(desk.agent.delete(&path).await.status, 204);
        desk.agent.get(&path).await.problem(404, "not_found");
    }
}

async fn too_large(backend: Backend) {
    let app = TestApp::with(backend, Clock::system(), "[limits]\nmax_attachments_bytes = 100").await;
    let desk = Desk::with(&app, with_file()).await;
    desk.upload(&desk.agent, "a", "text/plain", vec![0; 101]).await.problem(413, "payload_too_large");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(desk.upload(&desk.agent, "a", "text/plain", vec![0; 100]).await.ok()["id"].clone());
    }
    let refused = desk.reply("reply", json!({ "attachment_ids": ids })).await;
    refused.problem(422, "validation_failed");
    assert_eq!(refused.pointers(), ["/attachment_ids"]);
    let forward = json!({ "to": [{ "address": "ben@example.net" }], "attachment_ids": [ids[0]] });
    let refused = desk.agent.post(&desk.path("forward"), forward).await;
    refused.problem(422, "validation_failed");
    assert_eq!(refused.pointers(), ["/include_attachments"]);
    desk.reply("reply", json!({ "attachment_ids": [ids[0]] })).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_over_the_limit_are_refused_sqlite() {
    too_large(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_over_the_limit_are_refused_postgres() {
    too_large(Backend::Postgres).await;
}
