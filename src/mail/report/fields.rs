//! Groups of `Name: value` lines between blank lines: what the machine-readable parts of reports consist of.

/// Most groups that are read.
const GROUPS_MAX: usize = 1000;
/// Most fields that are read of one group.
const FIELDS_MAX: usize = 100;
/// Longest value in bytes; what is folded onto a longer one is dropped.
const VALUE_MAX: usize = 8 * 1024;

/// Fields that belong together: lower-case names and unfolded values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Group(pub Vec<(String, String)>);

impl Group {
    /// The value of the first field called `name` (in lower case), when it is not empty.
    pub(super) fn first<'s>(&'s self, name: &'s str) -> Option<&'s str> {
        self.all(name).next()
    }

    /// The values of the fields called `name` (in lower case) that are not empty.
    pub(super) fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter(move |(n, value)| n == name && !value.is_empty()).map(|(_, v)| v.as_str())
    }
}

/// The groups in `text`, whose lines end in LF; lines that are no fields are passed over.
pub(super) fn groups(text: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut group = Group::default();
    for line in text.lines() {
        if line.trim().is_empty() {
            if !group.0.is_empty() {
                groups.push(std::mem::take(&mut group));
            }
            if groups.len() >= GROUPS_MAX {
                return groups;
            }
        } else if line.starts_with([' ', '\t']) {
            fold(&mut group, line.trim());
        } else if let Some((name, value)) = field(line)
            && group.0.len() < FIELDS_MAX
        {
            group.0.push((name, value.to_owned()));
        }
    }
    if !group.0.is_empty() {
        groups.push(group);
    }
    groups
}

fn field(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim_end();
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    is_name.then(|| (name.to_ascii_lowercase(), value.trim()))
}

fn fold(group: &mut Group, more: &str) {
    if let Some((_, value)) = group.0.last_mut()
        && value.len() + more.len() < VALUE_MAX
    {
        value.push(' ');
        value.push_str(more);
    }
}
