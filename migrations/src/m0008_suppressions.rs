//! Addresses that we may not send to, and mail that came back and may get there another time.

crate::sql::migration!(UP, drops["soft_bounces", "suppressions"]);

const UP: &str = "
CREATE TABLE suppressions (
    id {uuid} PRIMARY KEY,
    address_key TEXT NOT NULL,
    address TEXT,
    channel TEXT NOT NULL,
    campaign_id {uuid},
    reason TEXT NOT NULL,
    note TEXT,
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX uq_suppressions__address ON suppressions (address_key) WHERE campaign_id IS NULL;
CREATE UNIQUE INDEX uq_suppressions_campaign__address ON suppressions (campaign_id, address_key) WHERE campaign_id IS NOT NULL;
CREATE TABLE soft_bounces (
    message_id {uuid} PRIMARY KEY,
    address_key TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX ix_soft_bounces__address ON soft_bounces (address_key, at);
CREATE INDEX ix_soft_bounces__at ON soft_bounces (at);
";
