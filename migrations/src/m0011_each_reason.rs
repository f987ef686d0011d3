//! An address is suppressed once for each reason; a message may go out in its window only.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
DROP INDEX uq_suppressions__address;
DROP INDEX uq_suppressions_campaign__address;
CREATE UNIQUE INDEX uq_suppressions__address ON suppressions (address_key, reason) WHERE campaign_id IS NULL;
CREATE UNIQUE INDEX uq_suppressions_campaign__address ON suppressions (campaign_id, address_key, reason) WHERE campaign_id IS NOT NULL;
ALTER TABLE deliveries ADD COLUMN window_calendar_id {uuid};
";

const DOWN: &str = "
ALTER TABLE deliveries DROP COLUMN window_calendar_id;
DROP INDEX uq_suppressions__address;
DROP INDEX uq_suppressions_campaign__address;
DELETE FROM suppressions WHERE EXISTS (
    SELECT 1 FROM suppressions AS other
    WHERE other.address_key = suppressions.address_key AND other.id < suppressions.id
    AND other.campaign_id IS NOT DISTINCT FROM suppressions.campaign_id
);
CREATE UNIQUE INDEX uq_suppressions__address ON suppressions (address_key) WHERE campaign_id IS NULL;
CREATE UNIQUE INDEX uq_suppressions_campaign__address ON suppressions (campaign_id, address_key) WHERE campaign_id IS NOT NULL;
";
