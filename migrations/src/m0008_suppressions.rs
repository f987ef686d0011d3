//! Addresses that we may not send to.

crate::sql::migration!(UP, drops["suppressions"]);

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
";
