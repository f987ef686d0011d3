//! Two handlers: one that answers from memory, one that reads a row.

use std::cell::RefCell;

use actix_web::{App, HttpResponse, HttpServer, web};
use rusqlite::Connection;
use serde::Serialize;

use crate::{INSERT, Result, create};

const ROWS: i64 = 20_000;

#[derive(Serialize)]
struct Item<'a> {
    id: u64,
    status: &'a str,
    queue: &'a str,
    subject: &'a str,
    priority: u8,
}

thread_local!(static DB: RefCell<Option<Connection>> = const { RefCell::new(None) });

async fn json() -> HttpResponse {
    let item = Item { id: 42, status: "open", queue: "billing", subject: "Where is my order", priority: 3 };
    HttpResponse::Ok().json(item)
}

async fn row(id: web::Path<i64>, file: web::Data<String>) -> actix_web::Result<HttpResponse> {
    let read = || {
        DB.with_borrow_mut(|db| {
            if db.is_none() {
                *db = Some(Connection::open(file.as_str())?);
            }
            let Some(db) = db else { return Err(rusqlite::Error::InvalidQuery) };
            let mut select = db.prepare_cached("SELECT id, subject, length(raw) FROM message WHERE id = ?1")?;
            select.query_row([*id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })
        })
    };
    let (id, subject, size) = read().map_err(actix_web::error::ErrorInternalServerError)?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "id": id, "subject": subject, "size": size })))
}

pub fn run(port: u16, file: &str) -> Result<()> {
    let mut db = create(file, "NORMAL")?;
    let tx = db.transaction()?;
    for id in 0..ROWS {
        let msgid = format!("<{id}.x@example.net>");
        let values = ("billing", id, msgid, "user@example.net", "Where is my order", vec![b'x'; 4096]);
        tx.prepare_cached(INSERT)?.execute(values)?;
    }
    tx.commit()?;
    let file = web::Data::new(file.to_owned());
    actix_web::rt::System::new().block_on(async move {
        let app = move || {
            App::new()
                .app_data(file.clone())
                .route("/json", web::get().to(json))
                .route("/row/{id}", web::get().to(row))
        };
        HttpServer::new(app).bind(("127.0.0.1", port))?.run().await
    })?;
    Ok(())
}
