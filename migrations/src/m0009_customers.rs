//! Customers, the lists and campaigns that they belong to, and what was tried with them.

crate::sql::migration!(
    UP,
    drops[
        "import_errors",
        "imports",
        "rule_sends",
        "attempts",
        "customers",
        "customer_lists",
        "campaigns",
        "outcomes",
    ]
);

const UP: &str = "
CREATE TABLE outcomes (
    id {uuid} PRIMARY KEY,
    code TEXT NOT NULL CONSTRAINT uq_outcomes__code UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    category TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE campaigns (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_campaigns__name UNIQUE,
    description TEXT NOT NULL,
    state TEXT NOT NULL,
    email_account_id {uuid} REFERENCES accounts (id),
    sms_account_id {uuid} REFERENCES accounts (id),
    message_rules {json} NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE customer_lists (
    id {uuid} PRIMARY KEY,
    name TEXT NOT NULL CONSTRAINT uq_customer_lists__name UNIQUE,
    description TEXT NOT NULL,
    campaign_id {uuid} REFERENCES campaigns (id),
    state TEXT NOT NULL,
    message_rules {json},
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_customer_lists__campaign ON customer_lists (campaign_id);
CREATE TABLE customers (
    id {uuid} PRIMARY KEY,
    ref TEXT NOT NULL CONSTRAINT uq_customers__ref UNIQUE,
    list_id {uuid} NOT NULL REFERENCES customer_lists (id),
    name TEXT NOT NULL,
    email TEXT,
    email_key TEXT,
    sms_number TEXT,
    sms_key TEXT,
    telephones {json} NOT NULL,
    locale TEXT,
    data {json} NOT NULL,
    status TEXT NOT NULL,
    callback_at BIGINT,
    callback_note TEXT,
    termination_code TEXT,
    termination_category TEXT,
    termination_note TEXT,
    terminated_at BIGINT,
    attempt_count BIGINT NOT NULL DEFAULT 0,
    last_attempt_at BIGINT,
    erased_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX ix_customers__list ON customers (list_id, id, status);
CREATE INDEX ix_customers__email_key ON customers (email_key);
CREATE INDEX ix_customers__sms_key ON customers (sms_key);
CREATE TABLE attempts (
    id {uuid} PRIMARY KEY,
    customer_id {uuid} NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    campaign_id {uuid} REFERENCES campaigns (id),
    attempt_ref TEXT NOT NULL,
    number BIGINT NOT NULL,
    outcome_code TEXT,
    outcome_category TEXT,
    request_hash TEXT NOT NULL,
    answer {json} NOT NULL,
    attempted_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT uq_attempts__attempt_ref UNIQUE (customer_id, attempt_ref)
);
CREATE TABLE rule_sends (
    id {uuid} PRIMARY KEY,
    customer_id {uuid} NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    rule_id {uuid} NOT NULL,
    message_id {uuid} NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX ix_rule_sends__customer ON rule_sends (customer_id, rule_id);
CREATE INDEX ix_rule_sends__message ON rule_sends (message_id);
CREATE TABLE imports (
    id {uuid} PRIMARY KEY,
    list_id {uuid} NOT NULL REFERENCES customer_lists (id) ON DELETE CASCADE,
    format TEXT NOT NULL,
    state TEXT NOT NULL,
    state_reason TEXT,
    delimiter TEXT NOT NULL,
    size_bytes BIGINT,
    rows_read BIGINT NOT NULL DEFAULT 0,
    bytes_read BIGINT NOT NULL DEFAULT 0,
    digest TEXT,
    created_count BIGINT NOT NULL DEFAULT 0,
    updated_count BIGINT NOT NULL DEFAULT 0,
    failed_count BIGINT NOT NULL DEFAULT 0,
    error_count BIGINT NOT NULL DEFAULT 0,
    runs BIGINT NOT NULL DEFAULT 0,
    lease_until BIGINT NOT NULL DEFAULT 0,
    author_id {uuid},
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE import_errors (
    id {uuid} PRIMARY KEY,
    import_id {uuid} NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    line BIGINT NOT NULL,
    customer_ref TEXT,
    member TEXT,
    code TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX ix_imports__list ON imports (list_id);
CREATE INDEX ix_import_errors__import ON import_errors (import_id, id);
CREATE INDEX ix_import_errors__ref ON import_errors (customer_ref);
";
