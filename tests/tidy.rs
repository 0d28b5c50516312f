//! Rules of style that no compiler keeps: how long a file may be, which room may know which, where the world outside may
//! be named, and what must not be written anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "reads the project's own files")]

use std::path::{Path, PathBuf};

/// Lines that a source file may have.
const LINES_MAX: usize = 600;

/// The rooms under `src/`, from the ground up: each imports only from rooms before it. Rooms of one line are one storey
/// and may know each other: an error names what it is about (`types`), and decoding a message can be a peer's fault
/// (`error`).
const STOREYS: [&[&str]; 23] = [
    &["planted"],
    &["codec"],
    &["limits"],
    &["hash"],
    &["types", "error"],
    &["committee"],
    &["crypto"],
    &["genesis"],
    &["config"],
    &["proof"],
    &["execute"],
    &["ingress"],
    &["verify"],
    &["mempool"],
    &["dag"],
    &["consensus"],
    &["log"],
    &["node"],
    &["serve"],
    &["gateway"],
    &["sim"],
    &["io"],
    &["cli"],
];

/// Rooms that may name clocks, threads, files and the network.
const WORLDLY: [&str; 2] = ["io", "cli"];
/// What the others must not name.
const WORLD: [&str; 9] = [
    "tokio::",
    "quinn::",
    "axum::",
    "hyper::",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime",
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// The room that a file under `src/` belongs to; `None` for `lib.rs`, `main.rs` and the manual.
    fn room(&self) -> Option<String> {
        let inside = self.path.strip_prefix(root().join("src")).ok()?;
        let first = inside.iter().next()?.to_str()?;
        Some(first.strip_suffix(".rs").unwrap_or(first).to_owned())
            .filter(|room| !["lib", "main", "manual"].contains(&room.as_str()))
    }

    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().unwrap().to_str().unwrap();
        let named = stem.ends_with("tests") || ["testing", "fixture"].contains(&stem);
        named || self.path.iter().any(|part| part == "tests")
    }

    /// Lines of code with their numbers: without comments, and without unit tests at the end of the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
        std::iter::from_fn(move || {
            let (number, line) = lines.next()?;
            let tests_follow = line.trim() == "#[cfg(test)]"
                && lines.peek().is_some_and(|(_, next)| next.starts_with("mod ") && next.ends_with('{'));
            (!tests_follow).then(|| (number, line.split("//").next().unwrap_or("")))
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file under a folder of the project.
fn files(folder: &str, extensions: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if extensions.iter().any(|e| path.extension().is_some_and(|found| found == *e))
                || name == "run"
            {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no files in {folder:?}");
    found
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn storey(room: &str) -> Option<usize> {
    STOREYS.iter().position(|rooms| rooms.contains(&room))
}

/// Rooms that a line of code names: `crate::room` and `crate::{room, …}`.
fn rooms_in(line: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let inside_word =
            line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &line[at + found.len()..];
        if inside_word {
            continue;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        rooms.push(&rest[..end]);
    }
    rooms
}

#[test]
fn files_are_short() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines, limit {LINES_MAX}", source.shown()))
    };
    none(&files("src", &["rs"]).iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn imports_point_down() {
    let mut faults = Vec::new();
    for source in files("src", &["rs"]).iter().filter(|source| !source.is_test()) {
        let Some(room) = source.room() else { continue };
        let Some(own) = storey(&room) else {
            faults.push(format!("{}: room {room} has no storey", source.shown()));
            continue;
        };
        for (number, line) in source.code() {
            for other in rooms_in(line) {
                match storey(other) {
                    Some(below) if below <= own => {}
                    Some(_) => faults.push(format!(
                        "{}:{number}: {room} imports {other}, which is above it",
                        source.shown()
                    )),
                    None => faults
                        .push(format!("{}:{number}: {other:?} is no room: name the room", source.shown())),
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn the_world_is_named_in_its_rooms_alone() {
    let mut faults = Vec::new();
    for source in files("src", &["rs"]).iter().filter(|source| !source.is_test()) {
        let Some(room) = source.room().filter(|room| !WORLDLY.contains(&room.as_str())) else { continue };
        for (number, line) in source.code() {
            for word in WORLD.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {room} names {word}", source.shown()));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_code_map_is_complete() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|module| *module != "manual")
        .collect();
    let mut faults = Vec::new();
    let mut sorted = modules.clone();
    sorted.sort_unstable();
    if sorted != modules {
        faults.push("src/lib.rs: modules are not in alphabetical order".to_owned());
    }
    for module in &modules {
        if storey(module).is_none() {
            faults.push(format!("src/lib.rs: {module} has no storey in tests/tidy.rs"));
        }
        if !lib.contains(&format!("[`{module}`]")) {
            faults.push(format!("src/lib.rs: {module} is not on the code map"));
        }
    }
    for room in STOREYS.iter().copied().flatten().filter(|room| !modules.contains(room)) {
        faults.push(format!("src/lib.rs: there is no module {room}"));
    }
    none(&faults);
}

#[test]
fn dependencies_say_why() {
    let mut faults = Vec::new();
    for source in files("", &["toml"]).iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let mut inside = false;
        for (number, line) in source.text.lines().enumerate() {
            if line.starts_with('[') {
                inside = line.contains("dependencies");
            } else if inside && line.contains('=') && !line.contains(" # ") {
                faults.push(format!("{}:{}: why this dependency?", source.shown(), number + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_left_open_and_nothing_of_elsewhere_is_named() {
    // Put together here, so that this file does not contain what it looks for.
    let open = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["X", "XX "],
        ["place", "holder"],
        ["for ", "now"],
        ["unimple", "mented!"],
    ];
    let elsewhere =
        [["/wo", "rk/"], ["crates", ".io"], ["py", "pi.org"], ["npm", "js.org"], ["proxy.go", "lang.org"]];
    let forbidden: Vec<String> = open.iter().chain(&elsewhere).map(|parts| parts.concat()).collect();
    let mut faults = Vec::new();
    for source in files("", &["rs", "md", "toml", "go", "txt", "yml", "sh"]) {
        for (number, line) in source.text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(word.as_str())) {
                faults.push(format!("{}:{}: {word:?}", source.shown(), number + 1));
            }
        }
    }
    none(&faults);
}
