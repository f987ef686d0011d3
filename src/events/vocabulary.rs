//! Every type of event that the log can hold: what it tells of, and whom.

use std::fmt::Write;

/// Whom an event of a type is for; API keys see what supervisors see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody who may read events.
    Everybody,
    /// Supervisors and administrators.
    Supervisors,
    /// Administrators.
    Admins,
    /// The agent whom it concerns, supervisors and administrators.
    Agent,
    /// The agent who has the work item, supervisors and administrators; everybody while nobody has it.
    Holder,
}

use Readers::{Admins, Agent, Everybody, Holder, Supervisors};

/// The types by name: what happened, and who is told.
pub const VOCABULARY: &[(&str, &str, Readers)] = &[
    ("account.activated", "An account begins to receive mail.", Supervisors),
    ("account.backfill_requested", "Older mail of an account is to be fetched.", Supervisors),
    ("account.connected", "An account's mailbox was reached; `mode` says how it is watched.", Supervisors),
    ("account.created", "An account was made.", Supervisors),
    ("account.deleted", "An account was deleted.", Supervisors),
    ("account.disabled", "An account was taken out of service.", Supervisors),
    ("account.failing", "An account's mailbox cannot be read; `reason` says why.", Supervisors),
    ("account.paused", "An account receives no mail until it is resumed.", Supervisors),
    ("account.poll_requested", "An account's mailbox is to be looked into at once.", Supervisors),
    ("account.recovered", "An account's mailbox that was failing can be read again.", Supervisors),
    ("account.resumed", "A paused account receives mail again.", Supervisors),
    ("account.updated", "An account's settings were changed.", Supervisors),
    ("agent.state_changed", "An agent is ready, not ready or logged off now.", Agent),
    ("agent.updated", "An agent's skills, capacity or other settings were changed.", Agent),
    ("agent_group.created", "An agent group was made.", Everybody),
    ("agent_group.deleted", "An agent group was deleted.", Everybody),
    ("agent_group.updated", "An agent group or its members were changed.", Everybody),
    (
        "attempt.reported",
        "A customer was tried; `status` is where they stand now, `triggers` what rules could wait for.",
        Supervisors,
    ),
    ("broadcast.cancelled", "A broadcast was called off.", Supervisors),
    ("broadcast.completed", "A broadcast is over; the state says whether it reached everybody.", Supervisors),
    ("broadcast.created", "A broadcast was made.", Supervisors),
    ("broadcast.deleted", "The draft of a broadcast was deleted.", Supervisors),
    ("broadcast.failed", "A broadcast could not be sent at all.", Supervisors),
    ("broadcast.paused", "Nothing more of a broadcast is sent for now.", Supervisors),
    ("broadcast.preparing", "A broadcast's recipients are being gathered.", Supervisors),
    (
        "broadcast.progress",
        "How many recipients of a broadcast stand where; once a second at most.",
        Supervisors,
    ),
    ("broadcast.running", "A broadcast is being sent.", Supervisors),
    ("broadcast.scheduled", "A broadcast begins by itself at its time.", Supervisors),
    ("broadcast.updated", "The draft of a broadcast was changed.", Supervisors),
    ("calendar.created", "A calendar was made.", Supervisors),
    ("calendar.deleted", "A calendar was deleted.", Supervisors),
    ("calendar.updated", "A calendar was changed.", Supervisors),
    ("campaign.created", "A campaign was made.", Supervisors),
    ("campaign.deleted", "A campaign was deleted.", Supervisors),
    ("campaign.resumed", "A campaign's rules fire again.", Supervisors),
    ("campaign.started", "A campaign's rules fire from now on.", Supervisors),
    ("campaign.stopped", "A campaign is over.", Supervisors),
    ("campaign.suspended", "A campaign's rules do not fire for now.", Supervisors),
    ("campaign.updated", "A campaign was changed.", Supervisors),
    ("class.created", "A class of contact was made.", Everybody),
    ("class.deleted", "A class of contact was deleted.", Everybody),
    ("class.updated", "A class of contact was changed.", Everybody),
    ("conversation.created", "A customer's message began a conversation.", Agent),
    ("conversation.note_added", "Somebody wrote an internal note.", Agent),
    ("conversation.updated", "A conversation has a new message, or was closed or opened.", Agent),
    ("customer.callback_cleared", "A customer is no longer to be called back.", Supervisors),
    ("customer.callback_set", "A time to call a customer back was agreed.", Supervisors),
    (
        "customer.created",
        "A customer was made; those of an import are told of by the import alone.",
        Supervisors,
    ),
    ("customer.deleted", "A customer's record was deleted.", Supervisors),
    ("customer.erased", "What was known of a customer was erased.", Supervisors),
    ("customer.redialled", "A customer who was given up is tried again.", Supervisors),
    ("customer.terminated", "A customer was given up.", Supervisors),
    (
        "customer.texts_erased",
        "The messages that were exchanged with an erased customer are empty, too.",
        Supervisors,
    ),
    ("customer.updated", "What is known of a customer was changed.", Supervisors),
    ("dkim_key.activated", "Mail is signed with a DKIM key from now on.", Supervisors),
    ("dkim_key.created", "A DKIM key was made.", Supervisors),
    ("dkim_key.deleted", "A DKIM key was deleted.", Supervisors),
    ("dkim_key.retired", "Mail is no longer signed with a DKIM key.", Supervisors),
    ("import.cancelled", "An import of customers was called off.", Supervisors),
    ("import.completed", "An import of customers has read its file to the end.", Supervisors),
    ("import.created", "An import of customers waits for its rows.", Supervisors),
    ("import.interrupted", "An import of customers broke off, and can be gone on with.", Supervisors),
    ("import.progressed", "An import of customers moves on; told once a second at most.", Supervisors),
    ("import.resumed", "An import of customers goes on after it broke off.", Supervisors),
    ("import.started", "The rows of an import of customers come in.", Supervisors),
    ("list.created", "A list of customers was made.", Supervisors),
    ("list.deleted", "A list of customers was deleted.", Supervisors),
    ("list.rules_changed", "A list has other message rules of its own, or none.", Supervisors),
    ("list.updated", "A list of customers was changed.", Supervisors),
    ("message.bounced", "A message came back.", Agent),
    ("message.cancelled", "A message will not be sent.", Agent),
    ("message.complained", "A message's recipient reported it as spam.", Agent),
    ("message.deferred", "A message was refused for now and will be tried again.", Agent),
    ("message.delivered", "A report says that a message arrived.", Agent),
    ("message.expired", "A message was deferred for too long and is not tried again.", Agent),
    ("message.failed", "A message was refused for good.", Agent),
    ("message.held", "A message waits because there is no outgoing server.", Agent),
    ("message.queued", "A message is due to be sent.", Agent),
    ("message.received", "A message came in.", Agent),
    ("message.scheduled", "A message is to be sent later.", Agent),
    ("message.sent", "The outgoing server took a message.", Agent),
    ("message.suppressed", "A message is not sent, because its recipient may not be written to.", Agent),
    (
        "message.uncertain",
        "The outgoing server's last word on a message was lost; it may have been sent.",
        Agent,
    ),
    ("offer.accepted", "An agent took an offer.", Agent),
    ("offer.created", "A work item is held out to an agent.", Agent),
    ("offer.rejected", "An agent refused an offer.", Agent),
    ("offer.rescinded", "An offer was taken back.", Agent),
    ("offer.timed_out", "An agent did not answer an offer in time.", Agent),
    ("outcome.created", "An outcome of attempts was made.", Supervisors),
    ("outcome.deleted", "An outcome of attempts was deleted.", Supervisors),
    ("outcome.updated", "An outcome of attempts was changed.", Supervisors),
    ("outgoing_server.deleted", "The outgoing server was removed.", Supervisors),
    ("outgoing_server.state_changed", "The outgoing server is up, down, paused or resumed.", Supervisors),
    ("outgoing_server.updated", "The outgoing server's settings were changed.", Supervisors),
    ("queue.created", "A queue was made.", Everybody),
    ("queue.deleted", "A queue was deleted.", Everybody),
    ("queue.updated", "A queue was changed.", Everybody),
    ("script.created", "A routing script was made.", Supervisors),
    ("script.deleted", "A routing script was deleted.", Supervisors),
    ("script.updated", "A routing script was changed, or has another active version.", Supervisors),
    ("script_version.activated", "A version of a script routes mail from now on.", Supervisors),
    ("script_version.created", "A version of a script was made.", Supervisors),
    ("script_version.deleted", "A version of a script was deleted.", Supervisors),
    ("script_version.locked", "A version of a script was frozen.", Supervisors),
    ("script_version.retired", "Another version of a script took this one's place.", Supervisors),
    ("script_version.unlocked", "A version of a script can be changed again.", Supervisors),
    ("script_version.updated", "A version of a script was changed.", Supervisors),
    ("skill.created", "A skill was made.", Everybody),
    ("skill.deleted", "A skill was deleted.", Everybody),
    ("skill.updated", "A skill was changed.", Everybody),
    (
        "suppression.created",
        "An address may not be written to any more, or for longer; `reason` says why.",
        Supervisors,
    ),
    ("suppression.deleted", "An address may be written to again.", Supervisors),
    (
        "suppression.imported",
        "A file brought suppressions; `count` says how many of them are new or hold for longer.",
        Supervisors,
    ),
    ("template.archived", "A template is no longer sent.", Supervisors),
    ("template.created", "A template was made.", Supervisors),
    ("template.deleted", "A template was deleted.", Supervisors),
    ("template.published", "A template can be sent from now on, with its partials as they are.", Supervisors),
    ("template.updated", "A template was changed.", Supervisors),
    ("template_partial.created", "What templates include was made.", Supervisors),
    ("template_partial.deleted", "What templates could include was deleted.", Supervisors),
    ("template_partial.updated", "What templates include was changed.", Supervisors),
    ("user.created", "A user was made.", Admins),
    ("user.deleted", "A user was deleted.", Admins),
    ("user.updated", "A user was changed.", Admins),
    ("variable.created", "A global variable was made.", Supervisors),
    ("variable.deleted", "A global variable was deleted.", Supervisors),
    ("variable.updated", "A global variable has another value.", Supervisors),
    ("work_item.answered", "A reply or forward was written on a work item.", Holder),
    ("work_item.assigned", "An agent has a work item.", Holder),
    ("work_item.completed", "A work item is done.", Holder),
    ("work_item.discarded", "A script ended a work item without an agent.", Holder),
    ("work_item.failed", "A work item could not be routed and waits for somebody to transfer it.", Holder),
    ("work_item.left_queue", "A work item no longer waits: it went to a desk.", Everybody),
    ("work_item.message_added", "The customer wrote again on a work item.", Holder),
    ("work_item.offered", "A work item is held out to an agent.", Holder),
    ("work_item.overdue", "A work item waited for longer than its queue allows.", Holder),
    ("work_item.queued", "A work item waits in a queue.", Holder),
    ("work_item.routing", "A work item's script runs.", Holder),
    ("work_item.snoozed", "A work item was laid aside until a time.", Holder),
    ("work_item.updated", "A work item's outcome, priority or class was changed.", Holder),
    ("work_item.wrapping", "An agent finishes a work item.", Holder),
];

impl Readers {
    const fn words(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Supervisors => "supervisors, administrators",
            Self::Admins => "administrators",
            Self::Agent => "the agent concerned, supervisors, administrators",
            Self::Holder => {
                "as long as an agent has it, that agent, supervisors, administrators; else everybody"
            }
        }
    }
}

/// Whether there is a type that begins with `start`.
pub fn has_type_like(start: &str) -> bool {
    VOCABULARY.iter().any(|(name, ..)| name.starts_with(start))
}

/// The types as a table in Markdown.
pub fn table() -> String {
    let mut table = String::from("| type | what happened | who is told |\n| --- | --- | --- |");
    for (name, sentence, readers) in VOCABULARY {
        // Writing into a string cannot fail.
        let _ = write!(table, "\n| `{name}` | {sentence} | {} |", readers.words());
    }
    table
}
