//! Accounts, how far each of their folders has been read, and where every inbound message came from.

crate::sql::migration!(UP, drops ["inbound_sources", "account_folders", "accounts"]);

const UP: &str = "
CREATE TABLE accounts (
    id {uuid} PRIMARY KEY,
    channel TEXT NOT NULL,
    address TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    username TEXT NOT NULL,
    password_sealed {bytes},
    oauth {json},
    oauth_sealed {bytes},
    inbound {json} NOT NULL,
    signature_text TEXT NOT NULL,
    signature_html TEXT NOT NULL,
    script_id {uuid} REFERENCES scripts (id),
    fallback_queue_id {uuid} REFERENCES queues (id),
    class_id {uuid} REFERENCES classes (id),
    script_settings {json} NOT NULL,
    receipt_template_id {uuid} REFERENCES templates (id),
    campaign_ids {json} NOT NULL,
    sms {json},
    state TEXT NOT NULL,
    state_reason TEXT,
    health {json} NOT NULL,
    due_at BIGINT,
    lease_until BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    poll_requested BOOLEAN NOT NULL DEFAULT FALSE,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX uq_accounts__address ON accounts (lower(address));
CREATE INDEX ix_accounts__due ON accounts (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE account_folders (
    account_id {uuid} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    folder TEXT NOT NULL,
    uid_validity BIGINT NOT NULL,
    last_uid BIGINT NOT NULL,
    reconciled_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, folder)
);
CREATE TABLE inbound_sources (
    id {uuid} PRIMARY KEY,
    account_id {uuid} NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    folder TEXT NOT NULL,
    uid_validity BIGINT NOT NULL,
    uid BIGINT NOT NULL,
    message_id {uuid} NOT NULL,
    size_bytes BIGINT NOT NULL,
    internal_date BIGINT NOT NULL,
    raw_sha256 {bytes},
    after_fetch_due BOOLEAN NOT NULL,
    CONSTRAINT uq_inbound_sources__uid UNIQUE (account_id, folder, uid_validity, uid)
);
CREATE INDEX ix_inbound_sources__after_fetch ON inbound_sources (account_id, folder) WHERE after_fetch_due;
CREATE INDEX ix_inbound_sources__sha256 ON inbound_sources (account_id, raw_sha256);
";
