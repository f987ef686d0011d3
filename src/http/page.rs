//! Lists in pages: keyset cursors that stay right while rows come and go.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::{
    ColumnTrait, ColumnType, Condition, ConnectionTrait, EntityTrait, IdenStatic, ModelTrait, Order,
    QueryFilter, QueryOrder, QuerySelect, Related, Select, Value,
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use super::problem::{Code, Problem};

/// The paging parameters that every list takes.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many items to return at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub limit: Option<u64>,
    /// Where to go on: `next_cursor` of the page before.
    #[param(max_length = 1000)]
    pub cursor: Option<String>,
}

/// One page of rows.
#[derive(Debug)]
pub struct Page<M> {
    /// The rows.
    pub items: Vec<M>,
    /// The cursor of the next page; none on the last.
    pub next_cursor: Option<String>,
}

impl<M> Page<M> {
    /// Turns the rows into what the API shows.
    pub fn map<T>(self, show: impl FnMut(M) -> T) -> Page<T> {
        Page { items: self.items.into_iter().map(show).collect(), next_cursor: self.next_cursor }
    }
}

/// The position of the last row of a page.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    /// The sort this cursor belongs to, as `column asc`.
    order: String,
    key: Key,
    id: Uuid,
}

#[derive(Debug, Serialize, Deserialize)]
enum Key {
    Id,
    Number(i64),
    Text(String),
}

impl PageQuery {
    /// The page size.
    pub fn limit(&self) -> u64 {
        self.limit.unwrap_or(50).clamp(1, 200)
    }

    /// Reads one page, ordered by `sort` (a column that is never null) and then by id; by id alone without `sort`.
    ///
    /// # Errors
    /// `invalid_cursor` for a cursor that is not of this list and sort.
    pub async fn fetch<E>(
        &self,
        db: &impl ConnectionTrait,
        select: Select<E>,
        id: E::Column,
        sort: Option<(E::Column, Order)>,
    ) -> Result<Page<E::Model>, Problem>
    where
        E: EntityTrait,
    {
        let keys = Keys::of(id, sort);
        let rows = keys.prepare(self, select)?.all(db).await?;
        keys.cut(self, rows, |row| row)
    }

    /// The same, each row with the one that it refers to.
    ///
    /// # Errors
    /// `invalid_cursor`.
    pub async fn fetch_also<E, R>(
        &self,
        db: &impl ConnectionTrait,
        select: Select<E>,
        id: E::Column,
        sort: Option<(E::Column, Order)>,
    ) -> Result<Page<(E::Model, Option<R::Model>)>, Problem>
    where
        E: EntityTrait + Related<R>,
        R: EntityTrait,
    {
        let keys = Keys::of(id, sort);
        let rows = keys.prepare(self, select)?.find_also_related(R::default()).all(db).await?;
        keys.cut(self, rows, |(row, _)| row)
    }
}

/// The columns that a list is ordered by.
struct Keys<E: EntityTrait> {
    id: E::Column,
    column: E::Column,
    order: Order,
    /// How a cursor names the order.
    name: String,
}

impl<E: EntityTrait> Keys<E> {
    fn of(id: E::Column, sort: Option<(E::Column, Order)>) -> Self {
        let (column, order) = sort.unwrap_or((id, Order::Asc));
        let name = format!("{}{}", column.as_str(), if order == Order::Desc { " desc" } else { "" });
        Self { id, column, order, name }
    }

    /// One page, and one row more that tells whether there is another.
    fn prepare(&self, page: &PageQuery, mut select: Select<E>) -> Result<Select<E>, Problem> {
        if let Some(text) = &page.cursor {
            let cursor = Cursor::decode(text, &self.name, self.column.def().get_column_type())?;
            select = select.filter(after(self.column, self.id, &self.order, &cursor));
        }
        if self.column.as_str() != self.id.as_str() {
            select = select.order_by(self.column, self.order.clone());
        }
        Ok(select.order_by(self.id, self.order.clone()).limit(page.limit() + 1))
    }

    fn cut<T>(self, page: &PageQuery, mut rows: Vec<T>, of: fn(&T) -> &E::Model) -> Result<Page<T>, Problem> {
        let limit = page.limit();
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(200));
        let next_cursor = match rows.last().filter(|_| more) {
            Some(last) => Some(Cursor::of::<E>(of(last), self.column, self.id, self.name)?.encode()?),
            None => None,
        };
        Ok(Page { items: rows, next_cursor })
    }
}

fn after<C: ColumnTrait>(column: C, id: C, order: &Order, cursor: &Cursor) -> Condition {
    let beyond = |column: C, value: Value| match order {
        Order::Desc => column.lt(value),
        _ => column.gt(value),
    };
    let key: Value = match &cursor.key {
        Key::Id => return Condition::all().add(beyond(id, cursor.id.into())),
        Key::Number(number) => (*number).into(),
        Key::Text(text) => text.clone().into(),
    };
    Condition::any()
        .add(beyond(column, key.clone()))
        .add(Condition::all().add(column.eq(key)).add(beyond(id, cursor.id.into())))
}

impl Key {
    fn fits(&self, column: &ColumnType) -> bool {
        match self {
            Self::Id => matches!(column, ColumnType::Uuid),
            Self::Number(_) => matches!(column, ColumnType::BigInteger | ColumnType::Integer),
            Self::Text(text) => {
                let is_text =
                    matches!(column, ColumnType::Text | ColumnType::String(_) | ColumnType::Enum { .. });
                is_text && !text.contains('\0')
            }
        }
    }
}

impl Cursor {
    fn of<E: EntityTrait>(
        row: &E::Model,
        column: E::Column,
        id: E::Column,
        order: String,
    ) -> Result<Self, Problem> {
        let Value::Uuid(Some(row_id)) = row.get(id) else {
            return Err(Problem::internal("a paged list needs a UUID key"));
        };
        let key = match row.get(column) {
            Value::Uuid(_) => Key::Id,
            Value::BigInt(Some(number)) => Key::Number(number),
            Value::Int(Some(number)) => Key::Number(number.into()),
            Value::String(Some(text)) => Key::Text(text),
            other => return Err(Problem::internal(format!("cannot page by {other:?}"))),
        };
        Ok(Self { order, key, id: row_id })
    }

    fn encode(&self) -> Result<String, Problem> {
        serde_json::to_vec(self).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(Problem::internal)
    }

    /// Whoever makes a cursor up can put anything into it: only what the column can hold reaches the database.
    fn decode(text: &str, order: &str, column: &ColumnType) -> Result<Self, Problem> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let cursor: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        cursor
            .filter(|cursor| cursor.order == order && cursor.key.fits(column))
            .ok_or_else(|| Problem::new(Code::InvalidCursor, "use next_cursor of a page with the same sort"))
    }
}
