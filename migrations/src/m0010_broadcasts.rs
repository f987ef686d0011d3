//! Broadcasts, and the ledger of who gets them.

crate::sql::migration!(UP, drops["broadcast_recipients", "broadcasts"]);

const UP: &str = "
CREATE TABLE broadcasts (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    channel TEXT NOT NULL,
    campaign_id {uuid} REFERENCES campaigns (id),
    list_id {uuid} REFERENCES customer_lists (id),
    template_id {uuid} NOT NULL REFERENCES templates (id),
    template_revision BIGINT NOT NULL DEFAULT 0,
    attachments_bytes BIGINT NOT NULL DEFAULT 0,
    account_id {uuid} NOT NULL REFERENCES accounts (id),
    statuses {json} NOT NULL,
    expression TEXT,
    scheduled_at BIGINT,
    window_calendar_id {uuid} REFERENCES calendars (id),
    rate_per_minute INTEGER,
    max_fail_percent INTEGER,
    max_bounce_percent INTEGER,
    next_slot_at BIGINT NOT NULL DEFAULT 0,
    prepared_to {uuid},
    found_count BIGINT NOT NULL DEFAULT 0,
    excluded {json} NOT NULL,
    marketing BOOLEAN NOT NULL,
    author_id {uuid},
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    prepared_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_broadcasts__due ON broadcasts (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE broadcast_recipients (
    id {uuid} PRIMARY KEY,
    broadcast_id {uuid} NOT NULL REFERENCES broadcasts (id) ON DELETE CASCADE,
    customer_id {uuid} NOT NULL,
    address TEXT NOT NULL,
    address_key TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    phase TEXT NOT NULL,
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    tries BIGINT NOT NULL DEFAULT 0,
    expires_at BIGINT NOT NULL,
    last_code INTEGER,
    last_text TEXT,
    sent_at BIGINT,
    updated_at BIGINT NOT NULL,
    CONSTRAINT uq_broadcast_recipients__address UNIQUE (broadcast_id, address_key)
);
CREATE INDEX ix_broadcast_recipients__due ON broadcast_recipients (broadcast_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_broadcast_recipients__begun ON broadcast_recipients (lease_until) WHERE phase = 'begun';
CREATE INDEX ix_broadcast_recipients__customer ON broadcast_recipients (customer_id);
CREATE INDEX ix_broadcast_recipients__state ON broadcast_recipients (broadcast_id, state);
";
