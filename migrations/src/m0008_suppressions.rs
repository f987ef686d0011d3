//! Addresses that we may not send to.

crate::sql::migration!(UP, drops["suppressions"]);

const UP: &str = "
CREATE TABLE suppressions (
    id {uuid} PRIMARY KEY,
    address TEXT NOT NULL CONSTRAINT uq_suppressions__address UNIQUE,
    reason TEXT NOT NULL,
    note TEXT,
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);
";
