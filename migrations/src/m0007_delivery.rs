//! The outgoing server, the keys that sign mail, messages due to be sent, every step of every try, and what the sandbox captured.

crate::sql::migration!(UP, drops ["captured_messages", "delivery_steps", "deliveries", "dkim_keys", "outgoing_server"]);

const UP: &str = "
CREATE TABLE outgoing_server (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    transport TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    security TEXT NOT NULL,
    auth TEXT NOT NULL,
    username TEXT NOT NULL,
    password_sealed {bytes},
    allow_plaintext BOOLEAN NOT NULL,
    helo_name TEXT NOT NULL,
    max_connections INTEGER NOT NULL,
    max_messages_per_connection INTEGER NOT NULL,
    rate_per_minute INTEGER,
    retry {json} NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    retry_at BIGINT,
    failures INTEGER NOT NULL DEFAULT 0,
    next_slot_at BIGINT NOT NULL DEFAULT 0,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE dkim_keys (
    id {uuid} PRIMARY KEY,
    domain TEXT NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    state TEXT NOT NULL,
    dns_record TEXT NOT NULL,
    private_key_sealed {bytes} NOT NULL,
    activated_at BIGINT,
    retired_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT uq_dkim_keys__selector UNIQUE (domain, selector)
);
CREATE INDEX ix_dkim_keys__state ON dkim_keys (state, id);
CREATE TABLE deliveries (
    message_id {uuid} PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    envelope_from TEXT NOT NULL,
    recipients {json} NOT NULL,
    precedence INTEGER NOT NULL,
    repeatable BOOLEAN NOT NULL,
    phase TEXT NOT NULL,
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    tries BIGINT NOT NULL DEFAULT 0,
    expires_at BIGINT NOT NULL,
    last_code INTEGER,
    last_text TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_deliveries__due ON deliveries (precedence, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_deliveries__begun ON deliveries (lease_until) WHERE phase <> 'idle';
CREATE TABLE delivery_steps (
    id {uuid} PRIMARY KEY,
    message_id {uuid} NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    verb TEXT NOT NULL,
    code INTEGER,
    enhanced TEXT,
    text TEXT NOT NULL
);
CREATE INDEX ix_delivery_steps__message ON delivery_steps (message_id, id);
CREATE TABLE captured_messages (
    id {uuid} PRIMARY KEY,
    message_id {uuid} NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    envelope_from TEXT NOT NULL,
    recipients {json} NOT NULL,
    captured_at BIGINT NOT NULL
);
CREATE INDEX ix_captured_messages__message ON captured_messages (message_id);
";
