//! One reader's stream: first what the table has, then what happens, without gap or repeat.

use std::{convert::Infallible, time::Duration};

use actix_web::web::Bytes;
use futures::Stream;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use tokio::sync::broadcast::error::RecvError;

use super::{
    api::Event,
    entity::{Column, Entity, Model},
    tail::last_position,
};
use crate::{
    access::{authenticate::still_valid, matrix::Access},
    app::App,
    http::Caller,
};

/// A line is sent at least this often, so that proxies keep the connection and a dead one is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
const BATCH: u64 = 500;

/// Everything after `last` (or from now on) that `caller` may see, as lines of an event stream.
///
/// # Errors
/// Whatever the database says at the beginning; later the stream ends.
pub async fn follow(
    app: App,
    mut caller: Caller,
    last: Option<i64>,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>>, DbErr> {
    let mut live = app.tail.subscribe();
    let mut seen = match last {
        Some(position) => position,
        None => last_position(&app.db).await?,
    };
    let ends_at = app.clock.now().plus_s(app.config.auth.access_token_s);
    Ok(async_stream::stream! {
        yield Ok(Bytes::from(format!("retry: 2000\nid: {seen}\n\n")));
        let mut behind = true;
        loop {
            while behind {
                let Some(now) = still_allowed(&app, &caller).await else { return };
                caller = now;
                let Ok(rows) = after(&app, seen).await else { return };
                behind = rows.len() as u64 == BATCH;
                for row in rows {
                    seen = row.position.unwrap_or(seen);
                    if row.is_visible_to(&caller) {
                        yield Ok(line(row));
                    }
                }
            }
            tokio::select! {
                event = live.recv() => match event {
                    Ok(event) if event.position.is_some_and(|position| position > seen) => {
                        seen = event.position.unwrap_or(seen);
                        if event.is_visible_to(&caller) {
                            let Some(now) = still_allowed(&app, &caller).await else { return };
                            caller = now;
                            if event.is_visible_to(&caller) {
                                yield Ok(line(Model::clone(&event)));
                            }
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => behind = true,
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(HEARTBEAT) => {
                    let Some(now) = still_allowed(&app, &caller).await else { return };
                    caller = now;
                    yield Ok(Bytes::from_static(b": alive\n\n"));
                }
                () = app.clock.sleep_until(ends_at) => return,
                () = app.shutdown.stopping() => return,
            }
        }
    })
}

/// The caller as things stand; none when the stream is theirs no longer. Remembered for some seconds, so that asking
/// costs next to nothing.
async fn still_allowed(app: &App, caller: &Caller) -> Option<Caller> {
    let standing = still_valid(app, caller).await.ok().filter(|now| !now.must_change_password)?;
    let allowed = Access::of("stream_events").is_some_and(|access| access.allows(&standing.caller));
    allowed.then_some(standing.caller)
}

async fn after(app: &App, position: i64) -> Result<Vec<Model>, DbErr> {
    let select =
        Entity::find().filter(Column::Position.gt(position)).order_by_asc(Column::Position).limit(BATCH);
    select.all(app.db.read()).await
}

fn line(row: Model) -> Bytes {
    let event = Event::from(row);
    let data = serde_json::to_string(&event).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.position, event.r#type))
}
