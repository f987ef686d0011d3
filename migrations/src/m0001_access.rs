//! Users, tokens, API keys, the audit log, and what a request with an idempotency key was answered.

crate::sql::migration!(UP, drops ["settings", "idempotency_keys", "audit_log", "login_failures", "event_tickets", "api_keys", "refresh_tokens", "signing_keys", "users"]);

const UP: &str = "
CREATE TABLE users (
    id {uuid} PRIMARY KEY,
    username TEXT NOT NULL CONSTRAINT uq_users__username UNIQUE,
    display_name TEXT NOT NULL,
    email TEXT,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    must_change_password BOOLEAN NOT NULL,
    disabled BOOLEAN NOT NULL,
    last_login_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    private_key_sealed {bytes} NOT NULL,
    public_key {bytes} NOT NULL,
    created_at BIGINT NOT NULL,
    signs_until BIGINT NOT NULL,
    published_until BIGINT NOT NULL
);
CREATE TABLE refresh_tokens (
    token_hash {bytes} PRIMARY KEY,
    family_id {uuid} NOT NULL,
    user_id {uuid} NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX ix_refresh_tokens__family ON refresh_tokens (family_id);
CREATE INDEX ix_refresh_tokens__user ON refresh_tokens (user_id);
CREATE INDEX ix_refresh_tokens__expires ON refresh_tokens (expires_at);
CREATE TABLE api_keys (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_api_keys__name UNIQUE,
    secret_hash {bytes} NOT NULL CONSTRAINT uq_api_keys__secret UNIQUE,
    hint TEXT NOT NULL,
    scopes {json} NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    created_by {uuid},
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE login_failures (
    subject TEXT PRIMARY KEY,
    count BIGINT NOT NULL,
    window_start BIGINT NOT NULL
);
CREATE TABLE event_tickets (
    ticket_hash {bytes} PRIMARY KEY,
    caller {json} NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE TABLE audit_log (
    id {uuid} PRIMARY KEY,
    at BIGINT NOT NULL,
    actor_id {uuid},
    actor_name TEXT NOT NULL,
    action TEXT NOT NULL,
    subject_type TEXT,
    subject_id TEXT,
    outcome TEXT NOT NULL,
    details {json} NOT NULL,
    request_id TEXT
);
CREATE INDEX ix_audit_log__subject ON audit_log (subject_id, id);
CREATE INDEX ix_audit_log__actor ON audit_log (actor_id, id);
CREATE INDEX ix_audit_log__action ON audit_log (action, id);
CREATE TABLE idempotency_keys (
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash {bytes} NOT NULL,
    status INTEGER NOT NULL,
    location TEXT,
    etag TEXT,
    body_sealed {bytes},
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX ix_idempotency_keys__created ON idempotency_keys (created_at);
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value {json} NOT NULL
);
";
