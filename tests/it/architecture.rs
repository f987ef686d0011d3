//! The shape of the code: calls go one way (DESIGN §6), read from the `use` lines and paths of the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use postroom::FEATURE_EDGES;
use regex::Regex;

/// What every feature may use.
const BASE: &[&str] = &[
    "app", "clock", "config", "db", "http", "id", "instance", "language", "lease", "mail", "raw", "secret",
    "shutdown", "workers", "together",
];
/// Features that every other feature may call.
const OPEN_TO_ALL: &[&str] = &["access", "events"];
/// What may call everything.
const TOP: &[&str] = &["api", "app", "lib", "main", "sandbox", "workers"];

/// Which modules each top-level module names, with the place of one such line.
fn uses() -> BTreeMap<String, BTreeMap<String, String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: BTreeSet<String> =
        fs::read_dir(&root).unwrap().map(|entry| stem(&entry.unwrap().path())).collect();
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).unwrap();
        let module = stem(Path::new(relative.components().next().unwrap().as_os_str()));
        for (used, line) in named(&fs::read_to_string(&path).unwrap(), &modules) {
            if used != module {
                let place = format!("src/{}:{line}", relative.display());
                found.entry(module.clone()).or_default().entry(used).or_insert(place);
            }
        }
    }
    found
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The source files in a folder and below.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top-level modules that a source names: `crate::name` anywhere, and the first names inside `use crate::{…}`.
fn named(text: &str, modules: &BTreeSet<String>) -> Vec<(String, usize)> {
    let code: String =
        text.lines().map(|line| format!("{}\n", line.split("//").next().unwrap_or_default())).collect();
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let single = Regex::new(r"(?:crate|postroom)::(\w+)").unwrap();
    let mut found: Vec<_> =
        single.captures_iter(&code).map(|c| (c[1].to_owned(), line_of(c.get(0).unwrap().start()))).collect();
    for group in Regex::new(r"(?:crate|postroom)::\{").unwrap().find_iter(&code) {
        let (mut depth, mut name) = (1, String::new());
        for character in code[group.end()..].chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (character.is_alphanumeric() || character == '_') {
                name.push(character);
            } else if !name.is_empty() && (character == ':' || depth != 1 || character == ',') {
                found.push((std::mem::take(&mut name), line_of(group.start())));
            } else if character == ',' || character.is_whitespace() {
                name.clear();
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|(name, _)| modules.contains(name));
    found
}

fn allowed(module: &str, used: &str) -> bool {
    let edges: BTreeMap<_, _> = FEATURE_EDGES.iter().copied().collect();
    match edges.get(module) {
        Some(may) => BASE.contains(&used) || OPEN_TO_ALL.contains(&used) || may.contains(&used),
        None if TOP.contains(&module) || module == "service" => true,
        None if module == "http" => ["app", "clock", "db", "id", "secret"].contains(&used),
        None if module == "mail" => ["clock"].contains(&used),
        None => !edges.contains_key(used) && used != "api",
    }
}

#[test]
fn every_problem_of_the_table_is_answered_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code: String = sources(&root).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let row = Regex::new(r#"(?m)^    (\w+) [45]\d\d "[a-z_]+" ".+";$"#).unwrap();
    let known: Vec<&str> = row.captures_iter(&code).map(|row| row.get(1).unwrap().as_str()).collect();
    assert!(known.len() > 40, "only {} problems were found", known.len());
    let idle: Vec<_> = known
        .into_iter()
        .filter(|name| !Regex::new(&format!(r"\bCode::{name}\b")).unwrap().is_match(&code))
        .collect();
    assert!(idle.is_empty(), "never answered: {idle:?}");
}

#[test]
fn calls_go_one_way() {
    let mut wrong = Vec::new();
    for (module, used) in uses() {
        for (other, place) in used {
            if !allowed(&module, &other) {
                wrong.push(format!("{place}: `{module}` may not use `{other}`"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "\n{}\nAllow an edge in FEATURE_EDGES (src/lib.rs) only with a reason.",
        wrong.join("\n")
    );
}

#[test]
fn a_forbidden_import_is_found_in_every_form() {
    let modules = ["queues", "mail", "work"].map(String::from).into();
    for text in [
        "use crate::queues::entity;",
        "use crate::{\n    mail::parse,\n    queues::{self, api},\n};",
        "fn f() { crate::queues::api::mount(c) }",
        "use crate::{mail, queues};",
    ] {
        let found: Vec<_> = named(text, &modules).into_iter().map(|(name, _)| name).collect();
        assert!(found.contains(&"queues".to_owned()), "{text}: {found:?}");
    }
    assert!(named("// crate::queues is not meant here", &modules).is_empty());
    assert!(!allowed("queues", "delivery") && !allowed("mail", "db") && !allowed("http", "queues"));
}

#[test]
fn no_edge_is_allowed_that_nothing_needs() {
    let uses = uses();
    for (module, may) in FEATURE_EDGES {
        for other in *may {
            let needed = uses.get(*module).is_some_and(|used| used.contains_key(*other));
            assert!(needed, "`{module}` does not use `{other}`: take the edge out of FEATURE_EDGES");
        }
    }
}

#[test]
fn files_have_meaningful_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root) {
        let bag = path
            .strip_prefix(&root)
            .unwrap()
            .components()
            .map(|part| stem(Path::new(part.as_os_str())))
            .find(|name| {
                ["utils", "util", "helpers", "helper", "common", "types", "misc", "manager"]
                    .contains(&name.as_str())
            });
        assert!(bag.is_none(), "{}: name it after what it does", path.display());
    }
}

#[test]
fn no_two_types_have_the_same_name_in_the_document() {
    let shape =
        Regex::new(r"(?s)#\[derive\(([^\]]*)\)\](.*?)\bpub(?:\([^)]*\))? (?:struct|enum) (\w+)").unwrap();
    let other_name = Regex::new(r"schema\([^\]]*\bas = (\w+)").unwrap();
    let (mut places, mut twice) = (BTreeMap::new(), Vec::new());
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let code = fs::read_to_string(&path).unwrap();
        for found in shape.captures_iter(&code).filter(|found| found[1].contains("ToSchema")) {
            let name =
                other_name.captures(&found[2]).map_or(found[3].to_owned(), |other| other[1].to_owned());
            if let Some(first) = places.insert(name.clone(), path.clone()) {
                twice.push((name, first, path.clone()));
            }
        }
    }
    assert!(places.len() > 300, "only {} types were found", places.len());
    assert!(twice.is_empty(), "one would be described as the other: {twice:#?}");
}
