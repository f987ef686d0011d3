//! A campaign names its sender accounts; an account names no campaigns.

crate::sql::migration!(UP, undone by DOWN);

const UP: &str = "
ALTER TABLE accounts DROP COLUMN campaign_ids;
";

const DOWN: &str = "
ALTER TABLE accounts ADD COLUMN campaign_ids {json} NOT NULL DEFAULT '[]';
";
