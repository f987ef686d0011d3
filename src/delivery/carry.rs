//! Carries one message to the server, over a connection that is kept or made, and settles it.

use anyhow::Context;

use super::{
    claim::{Job, mark_dot},
    connections::{Unreached, end, reach},
    entity::delivery,
    rules::{Case, Verdict, cut},
    settle::settle,
    timeline::Line,
};
use crate::{
    app::App,
    clock::Timestamp,
    conversations::entity::MessageState,
    mail::smtp::{BadAddress, Connection, Envelope, Outcome, SendReport},
    outgoing::entity::Transport,
    raw::RawError,
};

/// One message on its way.
struct Carrier<'a> {
    app: &'a App,
    job: &'a Job,
    lines: Vec<Line>,
    /// A connection that is not kept; the server's farewell may take its time, the result may not.
    used_up: Option<Connection>,
}

/// Carries and settles `job`.
///
/// # Errors
/// When the database or the settings cannot be read; the message is then tried again when its lease has run out.
pub(super) async fn carry(app: &App, job: &Job) -> anyhow::Result<()> {
    let mut carrier = Carrier { app, job, lines: Vec::new(), used_up: None };
    let verdict = carrier.try_it().await?;
    let captures = job.server.transport == Transport::Capture && verdict.state == Some(MessageState::Sent);
    settle(app, job, &verdict, &carrier.lines, captures).await.context("settling a delivery")?;
    if let Some(connection) = carrier.used_up {
        end(connection).await;
    }
    Ok(())
}

impl Carrier<'_> {
    /// What became of it.
    async fn try_it(&mut self) -> anyhow::Result<Verdict> {
        let raw = match self.app.raw.load(self.app.db.read(), self.job.row.message_id).await {
            Ok(Some(raw)) => raw,
            Ok(None) => return Ok(self.case().impossible("its source is gone".to_owned())),
            Err(error) => return self.unreadable(error).await,
        };
        let envelope = match self.envelope() {
            Ok(envelope) => envelope,
            Err(error) => return Ok(self.case().impossible(error.to_string())),
        };
        if self.job.server.transport == Transport::Capture {
            return Ok(self.captured());
        }
        loop {
            let mut connection = match self.connection().await {
                Ok(connection) => connection,
                Err(verdict) => return Ok(verdict),
            };
            let began = self.app.clock.now();
            let before_dot =
                async { mark_dot(self.app, self.job).await.map_err(|error| format!("{error:#}")) };
            let SendReport { outcome, recipients, steps } =
                connection.send(&envelope, &raw, Box::pin(before_dot)).await;
            self.said(began, steps);
            self.used_up = self.app.connections.put(&self.job.server, connection);
            match outcome {
                // The kept connection had ended in the meantime, which says nothing of the message.
                Outcome::Stale => {}
                outcome => return Ok(self.case().judge(&outcome, &recipients, self.now().await?)),
            }
        }
    }

    /// What follows when the source cannot be read.
    async fn unreadable(&self, error: RawError) -> anyhow::Result<Verdict> {
        let reason = cut(&format!("its source cannot be read: {error}"));
        match error {
            RawError::Db(error) => Err(error.into()),
            error if error.passes() => Ok(self.case().put_off(reason, self.now().await?)),
            _ => Ok(self.case().impossible(reason)),
        }
    }

    /// A connection that is open, or a new one; or what follows for the message when there is none: it waits as it was,
    /// and the server is asked later, or an administrator has to see to it.
    async fn connection(&mut self) -> Result<Connection, Verdict> {
        match reach(self.app, &self.job.server).await {
            Ok((connection, began, steps)) => {
                self.said(began, steps);
                Ok(connection)
            }
            Err(Unreached { reason, effect, began, steps }) => {
                self.said(began, steps);
                Err(Verdict { effect, ..self.case().untouched(reason, self.due_at()) })
            }
        }
    }

    fn captured(&self) -> Verdict {
        let said = crate::mail::smtp::Reply { code: 250, enhanced: None, text: "captured, not sent".into() };
        let outcome = Outcome::Accepted { reply: said };
        let verdict = self.case().judge(&outcome, &[], self.app.clock.now());
        Verdict { reason: "captured, not sent".into(), reply: None, ..verdict }
    }

    fn envelope(&self) -> Result<Envelope, BadAddress> {
        let delivery::Model { envelope_from, .. } = &self.job.row;
        let from = (!envelope_from.is_empty()).then(|| envelope_from.clone());
        let open = self.job.recipients.iter().filter(|recipient| recipient.is_open());
        Envelope::new(from, open.map(|recipient| recipient.address.clone()).collect())
    }

    fn case(&self) -> Case<'_> {
        let row = &self.job.row;
        Case {
            recipients: &self.job.recipients,
            tries: row.tries,
            repeatable: row.repeatable,
            due_at: self.due_at(),
            expires_at: row.expires_at,
            last_code: row.last_code,
            retry: self.job.server.retry_policy(),
            jitter: rand::random(),
        }
    }

    fn due_at(&self) -> Timestamp {
        self.job.row.due_at.unwrap_or(self.job.row.created_at)
    }

    async fn now(&self) -> anyhow::Result<Timestamp> {
        Ok(self.app.db.now(&self.app.clock).await?)
    }

    fn said(&mut self, began: Timestamp, steps: Vec<crate::mail::smtp::Step>) {
        let (id, attempt) = (self.job.row.message_id, self.job.row.tries + 1);
        self.lines.extend(steps.into_iter().map(|step| Line::said(id, attempt, began, step)));
    }
}
