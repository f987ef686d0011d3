//! From a row of a file to what is written of a customer. No I/O.

use serde_json::{Map, Value};

use crate::{
    customers::{
        contact::{Details, Telephone, check_ref},
        entity::customer::Column,
    },
    http::{
        Problem,
        problem::FieldError,
        rows::{Content, written},
    },
};

/// Columns of an export that an import cannot write.
const IGNORED: [&str; 11] = [
    "status",
    "callback_at",
    "callback_note",
    "termination_code",
    "termination_category",
    "termination_note",
    "terminated_at",
    "attempts",
    "last_attempt_at",
    "created_at",
    "updated_at",
];
const COLUMN_NAME_MAX: usize = 64;

/// A member of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Ref,
    Name,
    Email,
    SmsNumber,
    Telephones,
    Locale,
    Data,
}

impl Member {
    const ALL: [(&'static str, Self); 7] = [
        ("ref", Self::Ref),
        ("name", Self::Name),
        ("email", Self::Email),
        ("sms_number", Self::SmsNumber),
        ("telephones", Self::Telephones),
        ("locale", Self::Locale),
        ("data", Self::Data),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, member)| member)
    }

    const fn columns(self) -> &'static [Column] {
        match self {
            Self::Ref => &[],
            Self::Name => &[Column::Name],
            Self::Email => &[Column::Email, Column::EmailKey],
            Self::SmsNumber => &[Column::SmsNumber, Column::SmsKey],
            Self::Telephones => &[Column::Telephones],
            Self::Locale => &[Column::Locale],
            Self::Data => &[Column::Data],
        }
    }
}

/// Which members a row names; the others stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Members(u8);

impl Members {
    fn add(&mut self, member: Member) {
        self.0 |= 1 << member as u8;
    }

    /// The columns that hold them.
    pub fn columns(self) -> Vec<Column> {
        let named = Member::ALL.into_iter().filter(|(_, member)| self.0 & (1 << *member as u8) != 0);
        named.flat_map(|(_, member)| member.columns()).copied().collect()
    }
}

/// What a row says of a customer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// Their `ref`.
    pub known_as: String,
    /// What it says something of.
    pub members: Members,
    /// What it says.
    pub details: Details,
}

/// What a column of a CSV file means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Member(Member),
    /// The member of `data` of this name.
    Data(String),
    Ignored,
}

impl Target {
    fn member_of_data(&self) -> Option<String> {
        if let Self::Data(name) = self { Some(name.clone()) } else { None }
    }
}

/// The columns of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    targets: Vec<Target>,
    /// The members of `data` that have columns, when there is none for all of it.
    alone: Vec<String>,
}

impl Header {
    /// Reads the header line.
    ///
    /// # Errors
    /// `validation_failed` when there is no column `ref`, or a column has no name of its own.
    pub fn parse(cells: &[String]) -> Result<Self, Problem> {
        let mut wrong = Vec::new();
        let mut targets: Vec<Target> = Vec::new();
        for (index, cell) in cells.iter().enumerate() {
            let name = written(cell).trim();
            let target = Self::target(name);
            let place = format!("/header/{index}");
            if name.is_empty() || name.chars().count() > COLUMN_NAME_MAX || name.chars().any(char::is_control)
            {
                let detail = format!("a column's name has 1 to {COLUMN_NAME_MAX} characters");
                wrong.push(FieldError::new(place, "invalid_name", detail));
            } else if target != Target::Ignored && targets.contains(&target) {
                wrong.push(FieldError::new(
                    place,
                    "not_unique",
                    format!("the column {name:?} is there twice"),
                ));
            }
            targets.push(target);
        }
        if !targets.contains(&Target::Member(Member::Ref)) {
            let detail = "the first line names the columns, and one of them is `ref`";
            wrong.insert(0, FieldError::new("/header/ref", "required", detail));
        }
        if !wrong.is_empty() {
            return Err(Problem::validation(wrong));
        }
        let mut alone: Vec<String> = targets.iter().filter_map(Target::member_of_data).collect();
        if targets.contains(&Target::Member(Member::Data)) {
            alone.clear();
        }
        Ok(Self { targets, alone })
    }

    /// The members of `data` that the rows write, when they leave the others as they are.
    pub fn data_members(&self) -> &[String] {
        &self.alone
    }

    fn target(name: &str) -> Target {
        match (Member::named(name), name.strip_prefix("data.")) {
            (Some(member), _) => Target::Member(member),
            (None, Some(member)) => Target::Data(member.to_owned()),
            (None, None) if IGNORED.contains(&name) => Target::Ignored,
            (None, None) => Target::Data(name.to_owned()),
        }
    }

    fn draft(&self, cells: &[String], wrong: &mut Vec<FieldError>) -> Draft {
        let mut draft = Draft::default();
        if cells.len() != self.targets.len() {
            let detail = format!("the row has {} cells and the header {}", cells.len(), self.targets.len());
            wrong.push(FieldError::new("", "wrong_number_of_cells", detail));
            return draft;
        }
        for (target, cell) in self.targets.iter().zip(cells) {
            let text = written(cell);
            match target {
                Target::Ignored => {}
                Target::Data(name) => {
                    // An empty cell is nothing that is known.
                    if !text.is_empty() {
                        draft.details.data.insert(name.clone(), text.into());
                    }
                }
                Target::Member(member) => {
                    draft.members.add(*member);
                    draft.put_text(*member, text, wrong);
                }
            }
        }
        draft
    }
}

impl Draft {
    fn put_text(&mut self, member: Member, text: &str, wrong: &mut Vec<FieldError>) {
        let details = &mut self.details;
        let some = || Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        match member {
            Member::Ref => text.trim().clone_into(&mut self.known_as),
            Member::Name => text.trim().clone_into(&mut details.name),
            Member::Email => details.email = some(),
            Member::SmsNumber => details.sms_number = some(),
            Member::Locale => details.locale = some(),
            Member::Telephones if text.trim_start().starts_with('[') => match serde_json::from_str(text) {
                Ok(telephones) => details.telephones = telephones,
                Err(_) => wrong.push(no_telephones()),
            },
            Member::Telephones => {
                let numbers = text.split(';').map(str::trim).filter(|number| !number.is_empty());
                details.telephones =
                    numbers.map(|number| Telephone { number: number.into(), label: String::new() }).collect();
            }
            Member::Data if text.trim().is_empty() => {}
            Member::Data => match serde_json::from_str::<Map<String, Value>>(text) {
                Ok(members) => details.data.extend(members),
                Err(_) => wrong.push(FieldError::new("/data", "type", "the cell is a JSON object")),
            },
        }
    }

    fn put_value(&mut self, member: Member, value: Value, wrong: &mut Vec<FieldError>) {
        let details = &mut self.details;
        let mut type_error = |name: &str, kind: &str| {
            wrong.push(FieldError::new(format!("/{name}"), "type", format!("the value is {kind}")));
        };
        match (member, value) {
            (Member::Ref, Value::String(text)) => self.known_as = text,
            // A number is what many systems know customers by.
            (Member::Ref, Value::Number(number)) => self.known_as = number.to_string(),
            (Member::Ref, _) => type_error("ref", "text or a number"),
            (_, Value::Null) => {}
            (Member::Name, Value::String(text)) => details.name = text,
            (Member::Email, Value::String(text)) => details.email = Some(text),
            (Member::SmsNumber, Value::String(text)) => details.sms_number = Some(text),
            (Member::Locale, Value::String(text)) => details.locale = Some(text),
            (Member::Telephones, value) => match serde_json::from_value(value) {
                Ok(telephones) => details.telephones = telephones,
                Err(_) => wrong.push(no_telephones()),
            },
            (Member::Data, Value::Object(members)) => details.data = members,
            (Member::Data, _) => type_error("data", "an object"),
            (Member::Name, _) => type_error("name", "text"),
            (Member::Email, _) => type_error("email", "text"),
            (Member::SmsNumber, _) => type_error("sms_number", "text"),
            (Member::Locale, _) => type_error("locale", "text"),
        }
    }
}

fn no_telephones() -> FieldError {
    FieldError::new("/telephones", "type", "the value is a list of {number, label}")
}

fn of_object(object: Map<String, Value>, wrong: &mut Vec<FieldError>) -> Draft {
    let mut draft = Draft::default();
    for (name, value) in object {
        let known = Member::ALL.into_iter().find(|(known, _)| *known == name);
        match known {
            Some((_, member)) => {
                draft.members.add(member);
                draft.put_value(member, value, wrong);
            }
            None if IGNORED.contains(&name.as_str()) => {}
            None => {
                let name: String = name.chars().take(COLUMN_NAME_MAX).collect();
                let detail = "there is no such member; what else is known goes into `data`";
                wrong.push(FieldError::new(format!("/{name}"), "unknown_member", detail));
            }
        }
    }
    draft
}

/// What a row says, checked whole; a CSV file's header tells what its cells mean.
///
/// # Errors
/// The row's `ref`, where it could be read, and all that is wrong.
pub fn read(header: Option<&Header>, content: Content) -> Result<Draft, (Option<String>, Vec<FieldError>)> {
    let mut wrong = Vec::new();
    let mut draft = match (content, header) {
        (Content::Cells(cells), Some(header)) => header.draft(&cells, &mut wrong),
        (Content::Cells(_), None) => Draft::default(),
        (Content::Object(object), _) => of_object(object, &mut wrong),
    };
    if wrong.iter().all(|error| !error.pointer.is_empty()) {
        wrong.extend(
            check_ref(&draft.known_as).err().filter(|_| wrong.iter().all(|error| error.pointer != "/ref")),
        );
        wrong.extend(draft.details.check().err().unwrap_or_default());
    }
    if wrong.is_empty() {
        return Ok(draft);
    }
    let known_as = check_ref(&draft.known_as).is_ok().then_some(draft.known_as);
    Err((known_as, wrong))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(members: Members) -> Vec<&'static str> {
        members.columns().iter().map(sea_orm::IdenStatic::as_str).collect()
    }

    fn cells(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_become_members_and_what_is_no_member_becomes_data() {
        let header =
            Header::parse(&cells(&["Ref", "EMAIL", "data.plan", "Order No", "telephones", "data", "status"]));
        let header = header.unwrap();
        let row = ["7", "a@x.org", "gold", "", "1;2", "{\"n\":1}", "terminated"];
        let draft = read(Some(&header), Content::Cells(cells(&row))).unwrap();
        assert_eq!(draft.known_as, "7");
        assert_eq!(Value::Object(draft.details.data), json!({ "plan": "gold", "n": 1 }));
        assert_eq!(draft.details.telephones.len(), 2);
        let columns = ["email", "email_key", "telephones", "data"];
        assert_eq!(names(draft.members), columns, "a name that is not named stays");
        assert!(header.data_members().is_empty(), "all of it is written");
    }

    #[test]
    fn columns_of_members_leave_the_rest_of_data_alone() {
        let header = Header::parse(&cells(&["ref", "data.plan", "Order No", "status"])).unwrap();
        assert_eq!(header.data_members(), ["plan", "Order No"]);
        let draft = read(Some(&header), Content::Cells(cells(&["7", "gold", "", ""]))).unwrap();
        assert_eq!(Value::Object(draft.details.data), json!({ "plan": "gold" }));
        assert!(names(draft.members).is_empty());
    }

    #[test]
    fn a_header_without_ref_or_with_a_column_twice_is_refused() {
        let codes = |names: &[&str]| -> Vec<String> {
            let problem = Header::parse(&cells(names)).unwrap_err();
            problem.errors.into_iter().map(|error| error.code).collect()
        };
        assert_eq!(codes(&["name"]), ["required"]);
        assert_eq!(codes(&["ref", "x", "data.x"]), ["not_unique"]);
        assert_eq!(codes(&["ref", ""]), ["invalid_name"]);
        assert_eq!(codes(&[]), ["required"]);
    }

    #[test]
    fn a_row_is_refused_whole_with_all_that_is_wrong() {
        let header = Header::parse(&cells(&["ref", "email", "locale"])).unwrap();
        let (known_as, wrong) =
            read(Some(&header), Content::Cells(cells(&["7", "nobody", "english"]))).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!((known_as.as_deref(), pointers), (Some("7"), vec!["/email", "/locale"]));
        let (known_as, wrong) = read(Some(&header), Content::Cells(cells(&["7"]))).unwrap_err();
        assert_eq!((known_as, wrong[0].code.as_str()), (None, "wrong_number_of_cells"));
    }

    #[test]
    fn a_guarded_cell_comes_back_as_it_was() {
        let header = Header::parse(&cells(&["ref", "sms_number", "note"])).unwrap();
        let draft = read(Some(&header), Content::Cells(cells(&["7", "'+442079460018", "'=1+1"]))).unwrap();
        assert_eq!(draft.details.sms_number.as_deref(), Some("+442079460018"));
        assert_eq!(draft.details.data["note"], "=1+1");
    }

    #[test]
    fn an_objects_members_have_their_types() {
        let draft = |value: Value| read(None, Content::Object(value.as_object().unwrap().clone()));
        let good = draft(json!({ "ref": 7, "name": null, "data": { "n": 1 }, "status": "unused" })).unwrap();
        assert_eq!((good.known_as.as_str(), names(good.members)), ("7", vec!["name", "data"]));
        let (_, wrong) = draft(json!({ "name": 1, "colour": "red", "data": [] })).unwrap_err();
        let pointers: Vec<_> = wrong.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/name", "/colour", "/data", "/ref"]);
    }
}
