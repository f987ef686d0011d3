//! A guard judges what was tried since somebody let the broadcast go on; soft bounces count for each address.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
ALTER TABLE broadcasts ADD COLUMN judged_from {json};
ALTER TABLE broadcasts ADD COLUMN told_counts {json};
ALTER TABLE soft_bounces RENAME TO old_soft_bounces;
DROP INDEX ix_soft_bounces__address;
DROP INDEX ix_soft_bounces__at;
CREATE TABLE soft_bounces (
    message_id {uuid} NOT NULL,
    address_key TEXT NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_soft_bounces PRIMARY KEY (message_id, address_key)
);
INSERT INTO soft_bounces SELECT message_id, address_key, at FROM old_soft_bounces;
DROP TABLE old_soft_bounces;
CREATE INDEX ix_soft_bounces__address ON soft_bounces (address_key, at);
CREATE INDEX ix_soft_bounces__at ON soft_bounces (at);
";

const DOWN: &str = "
ALTER TABLE broadcasts DROP COLUMN told_counts;
ALTER TABLE broadcasts DROP COLUMN judged_from;
ALTER TABLE soft_bounces RENAME TO new_soft_bounces;
DROP INDEX ix_soft_bounces__address;
DROP INDEX ix_soft_bounces__at;
CREATE TABLE soft_bounces (
    message_id {uuid} PRIMARY KEY,
    address_key TEXT NOT NULL,
    at BIGINT NOT NULL
);
INSERT INTO soft_bounces SELECT message_id, MIN(address_key), MIN(at) FROM new_soft_bounces GROUP BY message_id;
DROP TABLE new_soft_bounces;
CREATE INDEX ix_soft_bounces__address ON soft_bounces (address_key, at);
CREATE INDEX ix_soft_bounces__at ON soft_bounces (at);
";
