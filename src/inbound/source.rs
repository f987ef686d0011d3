//! Where messages came from: what we have, its new names after a changed UIDVALIDITY, and how far a folder is read.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, LockType, OnConflict},
};
use uuid::Uuid;

use super::batch::{Cursor, Rekey, Source};
use crate::{
    accounts::entity::{account, folder, source},
    clock::Timestamp,
    db::among,
    id::AccountId,
};

/// How many values one `IN` list carries.
pub(super) const IN_LIST: usize = 500;

/// By what a message is known again when its UID has lost its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fingerprint {
    /// SHA-256 of its bytes.
    Sha256([u8; 32]),
    /// Of a message that was not fetched: what the server says of it.
    Oversize {
        /// Its size.
        size_bytes: i64,
        /// Its INTERNALDATE.
        internal_date: Timestamp,
    },
}

impl Fingerprint {
    fn of(row: &source::Model) -> Self {
        let sha256 = row.raw_sha256.as_deref().and_then(|sha256| sha256.try_into().ok());
        let oversize = Self::Oversize { size_bytes: row.size_bytes, internal_date: row.internal_date };
        sha256.map_or(oversize, Self::Sha256)
    }
}

/// After a changed UIDVALIDITY: which of a folder's messages we have under an older one.
///
/// Gives for each fingerprint, in order, the row in `inbound_sources` to be re-keyed, or none for a new message. A row
/// is given once: of three messages with the same bytes, of which we have two, the third is new.
///
/// # Errors
/// Whatever the database says.
pub async fn already_has(
    db: &impl ConnectionTrait,
    account: AccountId,
    folder: &str,
    uid_validity: i64,
    fingerprints: &[Fingerprint],
) -> Result<Vec<Option<Uuid>>, DbErr> {
    let mut rows: HashMap<Fingerprint, Vec<Uuid>> = HashMap::new();
    let older = source::Entity::find()
        .filter(source::Column::AccountId.eq(account))
        .filter(source::Column::Folder.eq(folder))
        .filter(source::Column::UidValidity.ne(uid_validity))
        .order_by_desc(source::Column::Id);
    let hashes: HashSet<&[u8]> = fingerprints
        .iter()
        .filter_map(|print| if let Fingerprint::Sha256(hash) = print { Some(hash.as_slice()) } else { None })
        .collect();
    for hashes in Vec::from_iter(hashes).chunks(IN_LIST) {
        let found = older.clone().filter(among(source::Column::RawSha256, hashes.iter().map(|h| h.to_vec())));
        for row in found.all(db).await? {
            rows.entry(Fingerprint::of(&row)).or_default().push(row.id);
        }
    }
    if fingerprints.iter().any(|print| matches!(print, Fingerprint::Oversize { .. })) {
        for row in older.filter(source::Column::RawSha256.is_null()).all(db).await? {
            rows.entry(Fingerprint::of(&row)).or_default().push(row.id);
        }
    }
    // The oldest row is last, so that copies are given in the order they came.
    Ok(fingerprints.iter().map(|print| rows.get_mut(print).and_then(Vec::pop)).collect())
}

/// Keeps other replicas from taking in mail of the same account until the transaction ends.
pub(super) async fn lock_account(
    tx: &DatabaseTransaction,
    id: AccountId,
) -> Result<Option<account::Model>, DbErr> {
    account::Entity::find_by_id(id).lock(LockType::NoKeyUpdate).one(tx).await
}

/// Which of these (folder, UIDVALIDITY, UID) are taken in already.
pub(super) async fn known(
    tx: &DatabaseTransaction,
    account: AccountId,
    sources: impl Iterator<Item = &Source>,
) -> Result<HashSet<(String, i64, i64)>, DbErr> {
    let mut folders: HashMap<(&str, i64), Vec<i64>> = HashMap::new();
    for source in sources {
        folders.entry((&source.folder, source.uid_validity)).or_default().push(source.uid);
    }
    let mut known = HashSet::new();
    for ((folder, uid_validity), uids) in folders {
        for uids in uids.chunks(IN_LIST) {
            let found: Vec<i64> = source::Entity::find()
                .select_only()
                .column(source::Column::Uid)
                .filter(source::Column::AccountId.eq(account))
                .filter(source::Column::Folder.eq(folder))
                .filter(source::Column::UidValidity.eq(uid_validity))
                .filter(among(source::Column::Uid, uids.iter().copied()))
                .into_tuple()
                .all(tx)
                .await?;
            known.extend(found.into_iter().map(|uid| (folder.to_owned(), uid_validity, uid)));
        }
    }
    Ok(known)
}

/// Gives messages that we have their new UIDs. One whose new UID is taken in already keeps its old one.
pub(super) async fn rekey(
    tx: &DatabaseTransaction,
    account: AccountId,
    rekeyed: &[Rekey],
) -> Result<(), DbErr> {
    for Rekey { source_id, uid_validity, uid } in rekeyed {
        let Some(row) = source::Entity::find_by_id(*source_id).one(tx).await? else { continue };
        let taken = source::Entity::find()
            .filter(source::Column::AccountId.eq(account))
            .filter(source::Column::Folder.eq(&row.folder))
            .filter(source::Column::UidValidity.eq(*uid_validity))
            .filter(source::Column::Uid.eq(*uid));
        if taken.one(tx).await?.is_some() {
            continue;
        }
        source::Entity::update_many()
            .col_expr(source::Column::UidValidity, Expr::value(*uid_validity))
            .col_expr(source::Column::Uid, Expr::value(*uid))
            .filter(source::Column::Id.eq(*source_id))
            .filter(source::Column::AccountId.eq(account))
            .exec(tx)
            .await?;
    }
    Ok(())
}

/// Moves a folder's cursor: forward, or to the start of a new UIDVALIDITY.
pub(super) async fn advance(
    tx: &DatabaseTransaction,
    account: AccountId,
    cursor: &Cursor,
) -> Result<(), DbErr> {
    let row = folder::ActiveModel {
        account_id: Set(account),
        folder: Set(cursor.folder.clone()),
        uid_validity: Set(cursor.uid_validity),
        last_uid: Set(cursor.last_uid),
        reconciled_at: Set(Timestamp::ZERO),
    };
    let ahead = "CASE WHEN account_folders.uid_validity = excluded.uid_validity \
                 AND account_folders.last_uid > excluded.last_uid \
                 THEN account_folders.last_uid ELSE excluded.last_uid END";
    let existing = OnConflict::columns([folder::Column::AccountId, folder::Column::Folder])
        .update_column(folder::Column::UidValidity)
        .value(folder::Column::LastUid, Expr::cust(ahead))
        .to_owned();
    folder::Entity::insert(row).on_conflict(existing).exec_without_returning(tx).await?;
    Ok(())
}

/// The next running number of an account's pushed messages; the account is locked.
pub(super) async fn next_uid(
    tx: &DatabaseTransaction,
    account: AccountId,
    folder: &str,
    uid_validity: i64,
) -> Result<i64, DbErr> {
    let last: Option<i64> = source::Entity::find()
        .select_only()
        .column_as(source::Column::Uid.max(), "last")
        .filter(source::Column::AccountId.eq(account))
        .filter(source::Column::Folder.eq(folder))
        .filter(source::Column::UidValidity.eq(uid_validity))
        .into_tuple::<Option<i64>>()
        .one(tx)
        .await?
        .flatten();
    Ok(last.unwrap_or(0) + 1)
}
