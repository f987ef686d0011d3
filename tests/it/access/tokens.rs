//! Access tokens: their end, their forgeries, the keys behind them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postroom::access::entity::signing_key;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use super::text;
use crate::{
    on_both,
    support::{Client, TestApp},
};

fn parts(token: &str) -> (Value, Value) {
    let part = |index: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    (part(0), part(1))
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

on_both! {
    async fn an_access_token_ends_after_its_time(app) {
        let app = TestApp::frozen(app.backend).await;
        let admin = app.admin().await;
        app.app.clock.advance(Duration::from_secs(904));
        admin.get("/v1/auth/me").await.ok();
        app.app.clock.advance(Duration::from_secs(1));
        admin.get("/v1/auth/me").await.problem(401, "token_expired");
    }

    async fn a_token_that_we_did_not_make_like_this_is_refused(app) {
        let admin = app.admin().await;
        admin.get("/v1/auth/me").await.ok();
        let key = signing_key::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        let private = app.app.sealer.open(&format!("signing_key:{}", key.kid), &key.private_key_sealed).unwrap();
        let ours = EncodingKey::from_ed_der(&private);
        let (header, claims) = parts(admin.token());
        let with = |member: &str, value: Value| {
            let mut changed = claims.clone();
            changed[member] = value;
            changed
        };
        let head = |kid: &str, typ: &str, alg| Header { kid: Some(kid.into()), typ: Some(typ.into()), ..Header::new(alg) };
        let sign = |header: &Header, claims: &Value| jsonwebtoken::encode(header, claims, &ours).unwrap();
        let good = head(&key.kid, "at+jwt", Algorithm::EdDSA);
        Client::new(&app.url, Some(sign(&good, &claims))).get("/v1/auth/me").await.ok();

        let signature = admin.token().rsplit('.').next().unwrap();
        let none = unsigned(&json!({ "alg": "none", "typ": "at+jwt", "kid": key.kid }), &claims);
        let symmetric = EncodingKey::from_secret(&key.public_key);
        let confused = head(&key.kid, "at+jwt", Algorithm::HS256);
        let other = EncodingKey::from_ed_der(
            ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_der(&ed25519_dalek::SigningKey::from_bytes(&[7; 32])).unwrap().as_bytes(),
        );
        let forged = [
            format!("{none}."),
            format!("{none}.{signature}"),
            format!("{}.{signature}", unsigned(&header, &with("role", json!("supervisor")))),
            jsonwebtoken::encode(&confused, &claims, &symmetric).unwrap(),
            jsonwebtoken::encode(&good, &claims, &other).unwrap(),
            sign(&head("0000000000000000", "at+jwt", Algorithm::EdDSA), &claims),
            sign(&head(&key.kid, "JWT", Algorithm::EdDSA), &claims),
            sign(&Header::new(Algorithm::EdDSA), &claims),
            sign(&good, &with("aud", json!("another"))),
            sign(&good, &with("iss", json!("http://elsewhere.example"))),
            sign(&good, &with("typ", json!("refresh"))),
            sign(&good, &with("sub", json!(uuid::Uuid::now_v7()))),
            sign(&good, &with("exp", Value::Null)),
            admin.token()[..admin.token().len() - 4].to_owned(),
            "a.b.c".into(),
            "prk_".into(),
            "é".into(),
        ];
        for token in forged {
            let answer = Client::new(&app.url, Some(token.clone())).get("/v1/auth/me").await;
            assert_eq!((answer.status, &answer.body["code"]), (401, &json!("unauthenticated")), "{token}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
        let basic = app.anonymous().request(reqwest::Method::GET, "/v1/auth/me").basic_auth("a", Some(admin.token()));
        admin.send(basic).await.problem(401, "unauthenticated");
    }

    async fn a_replaced_key_is_published_until_its_last_token_has_expired(app) {
        let app = TestApp::frozen(app.backend).await;
        let old = app.admin().await;
        let kids = |set: &Value| -> Vec<String> {
            set["keys"].as_array().unwrap().iter().map(|key| text(key, "kid").to_owned()).collect()
        };
        let before = kids(&app.anonymous().get("/v1/auth/jwks.json").await.ok());
        assert_eq!(before.len(), 1);
        app.app.clock.advance(Duration::from_secs(1));
        let made = old.post("/v1/auth/rotate-signing-key", json!({})).await.ok();
        let both = app.anonymous().get("/v1/auth/jwks.json").await.ok();
        assert_eq!(kids(&both), [text(&made, "kid"), &before[0]]);
        assert_eq!((text(&both["keys"][0], "kty"), text(&both["keys"][0], "alg")), ("OKP", "EdDSA"));
        old.get("/v1/auth/me").await.ok();
        let new = app.admin().await;
        assert_eq!(parts(new.token()).0["kid"], made["kid"]);
        new.get("/v1/auth/me").await.ok();
        app.app.clock.advance(Duration::from_secs(905));
        assert_eq!(kids(&app.anonymous().get("/v1/auth/jwks.json").await.ok()), [text(&made, "kid")]);
    }

    async fn a_key_is_replaced_when_its_time_is_over(app) {
        let app = TestApp::frozen(app.backend).await;
        let first = parts(app.admin().await.token()).0;
        app.app.clock.advance(Duration::from_secs(2_592_000));
        let second = app.admin().await;
        assert_ne!(first["kid"], parts(second.token()).0["kid"]);
        second.get("/v1/auth/me").await.ok();
    }

    async fn logins_at_the_same_moment_make_one_key(app) {
        let replica = if app.backend == crate::support::Backend::Postgres { Some(app.replica().await) } else { None };
        app.user(postroom::http::caller::Role::Admin, "admin").await;
        signing_key::Entity::delete_many().exec(&*app.app.db.begin().await.unwrap()).await.unwrap();
        let tx = app.app.db.begin().await.unwrap();
        signing_key::Entity::delete_many().exec(&*tx).await.unwrap();
        tx.commit().await.unwrap();
        let other = replica.as_ref().unwrap_or(&app);
        let logins = (0..8).map(|number| if number % 2 == 0 { &app } else { other }).map(TestApp::admin);
        let clients = futures::future::join_all(logins).await;
        assert_eq!(signing_key::Entity::find().all(app.app.db.read()).await.unwrap().len(), 1);
        for client in clients {
            client.get("/v1/auth/me").await.ok();
        }
    }
}
