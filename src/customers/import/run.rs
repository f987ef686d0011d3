//! Reads a file that comes in, and writes it batch by batch.

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

/// At most so many seconds after the last sign a reader gives another one: it writes what it has, and notices that it was
/// cancelled.
const SIGN_S: i64 = 10;
/// How long a sender may say nothing, in seconds.
const QUIET_S: i64 = 300;
/// Progress is told at most this often, in milliseconds.
const TELL_MS: i64 = 1000;

/// Why reading ended before the file did.
enum End {
    /// It can be gone on with: why not now.
    Broken(Problem),
    /// Another reader or a cancellation took the import away.
    Taken,
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Broken(problem)
    }
}

impl From<DbErr> for End {
    /// What the database refused may be taken at another time.
    fn from(error: DbErr) -> Self {
        Self::Broken(error.into())
    }
}

struct Run<'a> {
    app: &'a App,
    import: Model,
    reader: RowReader<Payload>,
    header: Option<Header>,
    batch: Batch,
    told_at: Timestamp,
    /// When the lease was renewed last.
    signed_at: Timestamp,
    /// How much of the file had come, and when that was found.
    heard: (u64, Timestamp),
}

/// Takes a file in, or goes on with it where it broke off.
///
/// # Errors
/// `not_found`, `invalid_state`, `unsupported_media_type`, `validation_failed` for a header or a file that is not the same,
/// `body_broke_off`.
pub async fn run(app: &App, id: ImportId, body: RowBody) -> Result<Model, Problem> {
    // Before the lease begins, so that it is renewed early rather than late.
    let now = app.clock.now();
    let import = begin(app, id, &body).await?;
    let delimiter = match import.delimiter {
        Delimiter::Comma => b',',
        Delimiter::Semicolon => b';',
        Delimiter::Tab => b'\t',
    };
    let reader = RowReader::new(body.payload, body.format, delimiter);
    let mut run = Run {
        app,
        import,
        reader,
        header: None,
        batch: Batch::default(),
        told_at: now,
        signed_at: now,
        heard: (0, now),
    };
    let read = run.read_all().await;
    let end = match read {
        Err(End::Taken) => Err(End::Taken),
        end if run.batch.is_empty() => end,
        // What was read whole is kept.
        end => run.write().await.and(end),
    };
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
    async fn read_all(&mut self) -> Result<(), End> {
        self.read_beginning().await?;
        while let Some(row) = self.wait(async |reader| reader.next().await).await? {
            self.batch.add(self.header.as_ref(), row);
            if self.batch.is_full() {
                self.write().await?;
                if self.app.shutdown.is_stopping() {
                    return Err(stopping().into());
                }
            }
        }
        Ok(())
    }

    /// The header, and what an earlier reader has read.
    async fn read_beginning(&mut self) -> Result<(), End> {
        if self.import.format == RowFormat::Csv {
            let row = self.wait(async |reader| reader.next().await).await?;
            let cells = match row.map(|row| row.content) {
                Some(Ok(Content::Cells(cells))) => cells,
                Some(Err(fault)) => {
                    return Err(Problem::invalid("/header", fault.code(), fault.to_string()).into());
                }
                Some(Ok(Content::Object(_))) | None => Vec::new(),
            };
            self.header = Some(Header::parse(&cells)?);
        }
        let Some(digest) = self.import.digest.clone() else { return Ok(()) };
        let already = u64::try_from(self.import.bytes_read).unwrap_or(0);
        let is_there = self.wait(async |reader| reader.skip_to(already).await).await?;
        if !is_there || self.reader.digest() != digest {
            let detail = "an import is gone on with by sending the same file again, from its beginning";
            return Err(Problem::invalid("", "another_file", detail).into());
        }
        Ok(())
    }

    /// Waits for what is read of the body, and gives signs meanwhile: also while it comes steadily, but slowly. What had come
    /// is not lost when `read` is begun again.
    async fn wait<T>(
        &mut self,
        read: impl AsyncFn(&mut RowReader<Payload>) -> Result<T, BrokeOff>,
    ) -> Result<T, End> {
        loop {
            let due = self.signed_at.plus_s(SIGN_S);
            tokio::select! {
                biased;
                read = read(&mut self.reader) => return read.map_err(|error| broken(error).into()),
                () = self.app.shutdown.stopping() => return Err(stopping().into()),
                () = self.app.clock.sleep_until(due) => {}
            }
            let (come, now) = (self.reader.bytes_read(), self.app.clock.now());
            if come > self.heard.0 {
                self.heard = (come, now);
            } else if now >= self.heard.1.plus_s(QUIET_S) {
                return Err(Problem::new(Code::BodyBrokeOff, "no rows came for five minutes").into());
            }
            self.write().await?;
        }
    }

    /// Writes what was read, which may be nothing, and renews the lease.
    async fn write(&mut self) -> Result<(), End> {
        let batch = std::mem::take(&mut self.batch);
        let bytes = i64::try_from(self.reader.bytes_read()).unwrap_or(i64::MAX);
        // Until it has caught up with an earlier reader, that one's place is kept.
        let at = if bytes > self.import.bytes_read {
            Position { bytes, digest: Some(self.reader.digest()) }
        } else {
            Position { bytes: self.import.bytes_read, digest: self.import.digest.clone() }
        };
        let now = self.app.clock.now();
        let tell = now >= self.told_at.plus_ms(TELL_MS);
        if tell {
            self.told_at = now;
        }
        self.signed_at = now;
        let header = self.header.as_ref();
        let moved = commit(self.app, &self.import, header, &batch, &at, tell).await?;
        self.import = moved.ok_or(End::Taken)?;
        Ok(())
    }

    async fn end(self, end: Result<(), End>) -> Result<Model, Problem> {
        let Self { app, import, .. } = self;
        let ended = match &end {
            Ok(()) => settle(app, &import, ImportState::Completed, None).await?,
            Err(End::Broken(problem)) => {
                settle(app, &import, ImportState::Interrupted, Some(&problem.detail)).await?
            }
            Err(End::Taken) => None,
        };
        match (end, ended) {
            (Err(End::Broken(problem)), _) => Err(problem),
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
