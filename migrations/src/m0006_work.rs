//! Work items, what their scripts did, and offers.

crate::sql::migration!(UP, drops ["offers", "work_trace", "work_items"]);

const UP: &str = "
CREATE TABLE work_items (
    id {uuid} PRIMARY KEY,
    conversation_id {uuid} NOT NULL REFERENCES conversations (id),
    account_id {uuid} NOT NULL REFERENCES accounts (id),
    channel TEXT NOT NULL,
    state TEXT NOT NULL,
    subject TEXT NOT NULL,
    customer_name TEXT,
    customer_address TEXT,
    first_message_id {uuid} NOT NULL,
    last_message_id {uuid} NOT NULL,
    message_count BIGINT NOT NULL,
    class_id {uuid},
    priority INTEGER NOT NULL,
    queue_id {uuid} REFERENCES queues (id),
    group_id {uuid},
    target_agent_id {uuid},
    required_skills {json} NOT NULL,
    lane TEXT NOT NULL,
    queued_at BIGINT,
    rank BIGINT NOT NULL,
    assigned_agent_id {uuid},
    last_agent_id {uuid},
    declined_by {json} NOT NULL,
    script_version_id {uuid},
    run {json},
    run_continues BOOLEAN NOT NULL,
    error {json},
    result TEXT,
    outcome_code TEXT,
    timer TEXT,
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    first_queued_at BIGINT,
    assigned_at BIGINT,
    first_assigned_at BIGINT,
    first_answered_at BIGINT,
    completed_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_work_items__queue ON work_items (queue_id, lane, rank, id) WHERE state = 'queued' AND target_agent_id IS NULL;
CREATE INDEX ix_work_items__target ON work_items (target_agent_id, rank) WHERE state = 'queued' AND target_agent_id IS NOT NULL;
CREATE INDEX ix_work_items__group ON work_items (group_id, rank) WHERE state = 'queued' AND group_id IS NOT NULL;
CREATE INDEX ix_work_items__held ON work_items (assigned_agent_id, channel) WHERE state IN ('assigned', 'wrapping');
CREATE INDEX ix_work_items__served ON work_items (queue_id, first_assigned_at) WHERE first_assigned_at IS NOT NULL;
CREATE INDEX ix_work_items__agent ON work_items (assigned_agent_id, state) WHERE assigned_agent_id IS NOT NULL;
CREATE INDEX ix_work_items__due ON work_items (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_work_items__conversation ON work_items (conversation_id, id);
CREATE INDEX ix_work_items__length ON work_items (queue_id, state);
CREATE INDEX ix_work_items__state ON work_items (state, id);
CREATE UNIQUE INDEX uq_work_items__open ON work_items (conversation_id) WHERE state NOT IN ('completed', 'discarded');
CREATE TABLE work_trace (
    id {uuid} PRIMARY KEY,
    work_item_id {uuid} NOT NULL REFERENCES work_items (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data {json} NOT NULL
);
CREATE INDEX ix_work_trace__item ON work_trace (work_item_id, id);
CREATE TABLE offers (
    id {uuid} PRIMARY KEY,
    work_item_id {uuid} NOT NULL REFERENCES work_items (id) ON DELETE CASCADE,
    agent_id {uuid} NOT NULL REFERENCES agents (id),
    queue_id {uuid},
    state TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    settled_at BIGINT
);
CREATE UNIQUE INDEX uq_offers__pending ON offers (work_item_id) WHERE state = 'pending';
CREATE INDEX ix_offers__agent ON offers (agent_id, state);
CREATE INDEX ix_offers__expiry ON offers (expires_at) WHERE state = 'pending';
";
