//! Imports point only downwards (docs/ARCHITECTURE.md, "Layers"). Modules of one layer are strangers
//! to each other. This test reads the sources; a new module must be given its place here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bottom first. A module may use modules of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["planted"],
    &["types"],
    &["schedule", "env"],
    &["machine", "dispatch", "intake", "wire", "transport", "storage"],
    &["consensus", "client"],
    &["session", "delivery"],
    &["relay", "admin"],
    &["node"],
    &["cli"],
];

/// Within a layer, who may look sideways, and why.
const SIDEWAYS: &[(&str, &str, &str)] = &[(
    "session",
    "delivery",
    "a session hands its consumers over, and writes what delivery put into its outbox",
)];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names of the crate's modules that a source text mentions as `crate::name`.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    let mut names = Vec::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.push(name);
        }
    }
    names
}

#[test]
fn imports_point_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(i, names)| names.iter().map(move |n| (*n, i)))
        .collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(
        files.len() > 20,
        "found only {} sources: does the test look at the right place?",
        files.len()
    );

    let mut faults = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(layer) = layer_of.get(module) else {
            faults.push(format!("{}: module '{module}' has no layer yet", inside.display()));
            continue;
        };
        for used in imports(&std::fs::read_to_string(&file).unwrap()) {
            let Some(below) = layer_of.get(used.as_str()) else { continue };
            let sideways = SIDEWAYS.iter().any(|(from, to, _)| *from == module && *to == used);
            if used != module && below >= layer && !sideways {
                faults.push(format!("{}: '{module}' uses '{used}'", inside.display()));
            }
        }
    }
    assert!(faults.is_empty(), "imports that do not point downwards:\n{}", faults.join("\n"));
}

#[test]
fn pure_modules_arm_the_bans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in ["types", "schedule", "machine", "dispatch", "intake"] {
        let head = std::fs::read_to_string(root.join(module).join("mod.rs")).unwrap();
        assert!(
            head.contains("#![deny(clippy::disallowed_types, clippy::disallowed_methods)]"),
            "src/{module}/mod.rs must deny what clippy.toml bans: no clock, randomness, hash order, I/O"
        );
    }
}
