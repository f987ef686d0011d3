//! Reads a file that comes in, and writes it batch by batch.

use std::{pin::pin, time::Duration};

use actix_web::dev::Payload;
use sea_orm::{DbErr, EntityTrait};

use super::{
    row::Header,
    write::{Batch, Position, commit, settle, take},
};
use crate::{
    app::App,
    clock::Timestamp,
    customers::entity::{
        Delimiter, ImportState,
        import::{Entity, Model},
    },
    http::{
        Code, Problem,
        rows::{BrokeOff, Content, RowBody, RowFormat, RowReader},
    },
    id::ImportId,
};

/// How often a reader that waits gives a sign, writes what it has, and notices that it was cancelled.
const TICK: Duration = Duration::from_secs(10);
/// How long a sender may say nothing, in ticks.
const QUIET_TICKS: u32 = 30;
/// Progress is told at most this often, in milliseconds.
const TELL_MS: i64 = 1000;

/// Why reading ended.
enum End {
    /// The file is read.
    Done,
    /// It can be gone on with: why not now.
    Broken(Problem),
    /// Another reader or a cancellation took the import away.
    Taken,
}

struct Run<'a> {
    app: &'a App,
    import: Model,
    reader: RowReader<Payload>,
    header: Option<Header>,
    batch: Batch,
    told_at: Timestamp,
}

/// Takes a file in, or goes on with it where it broke off.
///
/// # Errors
/// `not_found`, `invalid_state`, `unsupported_media_type`, `validation_failed` for a header or a file that is not the same,
/// `body_broke_off`.
pub async fn run(app: &App, id: ImportId, body: RowBody) -> Result<Model, Problem> {
    let import = begin(app, id, &body).await?;
    let delimiter = match import.delimiter {
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
    };
    let reader = RowReader::new(body.payload, body.format, delimiter);
    let told_at = app.clock.now();
    let mut run = Run { app, import, reader, header: None, batch: Batch::default(), told_at };
    let end = match run.read_beginning().await {
        Ok(()) => run.read_rows().await,
        Err(problem) => Ok(End::Broken(problem)),
    };
    // What the database refused may be taken at another time: the import can be gone on with.
    let end = end.unwrap_or_else(|error| End::Broken(error.into()));
    run.end(end).await
}

async fn begin(app: &App, id: ImportId, body: &RowBody) -> Result<Model, Problem> {
    let lease_from = app.db.now(&app.clock).await?;
    let (now, tx) = (app.clock.now(), app.db.begin().await?);
    let import = Entity::find_by_id(id).one(&*tx).await?.ok_or_else(|| Problem::not_found("import"))?;
    let refused = |detail: &str| Err(Problem::new(Code::InvalidState, detail));
    match import.state {
        ImportState::Waiting | ImportState::Interrupted => {}
        ImportState::Running if import.lease_until <= lease_from => {}
        ImportState::Running => return refused("its rows are being read"),
        ImportState::Completed => return refused("its rows were read; make another import for other rows"),
        ImportState::Cancelled => return refused("it was cancelled"),
    }
    if import.format != body.format {
        let detail = format!("the import is made for {}", import.format.media_type());
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let import = take(&tx, now, lease_from, &import, body.size_bytes).await?;
    tx.commit().await?;
    Ok(import)
}

impl Run<'_> {
    /// The header, and what an earlier reader has read.
    async fn read_beginning(&mut self) -> Result<(), Problem> {
        if self.import.format == RowFormat::Csv {
            let row = self.reader.next().await.map_err(broken)?;
            let cells = match row.map(|row| row.content) {
                Some(Ok(Content::Cells(cells))) => cells,
                Some(Err(fault)) => return Err(Problem::invalid("/header", fault.code(), fault.to_string())),
                Some(Ok(Content::Object(_))) | None => Vec::new(),
            };
            self.header = Some(Header::parse(&cells)?);
        }
        let Some(digest) = self.import.digest.clone() else { return Ok(()) };
        let already = u64::try_from(self.import.bytes_read).unwrap_or(0);
        let is_there = self.reader.skip_to(already).await.map_err(broken)?;
        if !is_there || self.reader.digest() != digest {
            let detail = "an import is gone on with by sending the same file again, from its beginning";
            return Err(Problem::invalid("", "another_file", detail));
        }
        Ok(())
    }

    async fn read_rows(&mut self) -> Result<End, DbErr> {
        let mut quiet = 0;
        loop {
            let mut waited = pin!(tokio::time::sleep(TICK));
            let read = tokio::select! {
                biased;
                row = self.reader.next() => Some(row),
                () = self.app.shutdown.stopping() => return self.broken(stopping()).await,
                () = &mut waited => None,
            };
            match read {
                Some(Ok(Some(row))) => {
                    quiet = 0;
                    self.batch.add(self.header.as_ref(), row);
                    if !self.batch.is_full() {
                        continue;
                    }
                    if !self.write().await? {
                        return Ok(End::Taken);
                    }
                    if self.app.shutdown.is_stopping() {
                        return self.broken(stopping()).await;
                    }
                }
                Some(Ok(None)) => {
                    let is_mine = self.batch.is_empty() || self.write().await?;
                    return Ok(if is_mine { End::Done } else { End::Taken });
                }
                Some(Err(error)) => return self.broken(broken(error)).await,
                None if quiet == QUIET_TICKS => {
                    let problem = Problem::new(Code::BodyBrokeOff, "no rows came for five minutes");
                    return self.broken(problem).await;
                }
                None => {
                    quiet += 1;
                    if !self.write().await? {
                        return Ok(End::Taken);
                    }
                }
            }
        }
    }

    /// What was read whole is kept.
    async fn broken(&mut self, problem: Problem) -> Result<End, DbErr> {
        let is_mine = self.batch.is_empty() || self.write().await?;
        Ok(if is_mine { End::Broken(problem) } else { End::Taken })
    }

    async fn write(&mut self) -> Result<bool, DbErr> {
        let batch = std::mem::take(&mut self.batch);
        let at = Position { bytes: self.reader.bytes_read(), digest: self.reader.digest() };
        let now = self.app.clock.now();
        let tell = now >= self.told_at.plus_ms(TELL_MS);
        if tell {
            self.told_at = now;
        }
        let moved = commit(self.app, &self.import, &batch, &at, tell).await?;
        let is_mine = moved.is_some();
        if let Some(moved) = moved {
            self.import = moved;
        }
        Ok(is_mine)
    }

    async fn end(self, end: End) -> Result<Model, Problem> {
        let Self { app, import, .. } = self;
        let ended = match &end {
            End::Done => settle(app, &import, ImportState::Completed, None).await?,
            End::Broken(problem) => {
                settle(app, &import, ImportState::Interrupted, Some(&problem.detail)).await?
            }
            End::Taken => None,
        };
        match (end, ended) {
            (End::Broken(problem), _) => Err(problem),
            (_, Some(ended)) => Ok(ended),
            (_, None) => Err(Problem::new(
                Code::InvalidState,
                "the import was cancelled, or is read by another request",
            )),
        }
    }
}

fn stopping() -> Problem {
    Problem::new(Code::Unavailable, "the service stops; send the file again").retry_after(5)
}

fn broken(error: BrokeOff) -> Problem {
    Problem::new(Code::BodyBrokeOff, error.to_string())
}
