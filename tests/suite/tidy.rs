//! Rules of the house that a reader could only hope for: the tree is read, and
//! every fault is listed at once.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that end in one of `endings`.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", ".git", "dist", "output"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The lines of a file in front of its tests, without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.trim_start().starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Words that may not stand in some folders, and why.
const FORBIDDEN: &[(&[&str], &[&str], &str)] = &[
    (
        &["config/src"],
        &[
            "tokio",
            "std::fs",
            "std::net::Tcp",
            "SystemTime::now",
            "Instant::now",
            "kube::",
            "pingora",
            "std::env",
        ],
        "the model is pure",
    ),
    (
        &["controller/src/translate", "controller/src/assemble", "controller/src/world"],
        &[
            "tokio",
            "std::fs",
            "std::net::Tcp",
            "SystemTime::now",
            "Instant::now",
            "kube::",
            "std::env",
        ],
        "translation reads its arguments only",
    ),
    (&["proxy/src", "admin-ui/src"], &["kube::", "k8s_openapi"], "it names no Kubernetes type"),
    (
        &["controller/src", "admin-ui/src"],
        &["pingora", "kubeng_proxy"],
        "it does not know the proxy",
    ),
    (&["proxy/src"], &["kubeng_controller"], "it does not know the controller"),
];

#[test]
fn layers_name_nothing_that_they_must_not_know() {
    let mut faults = Vec::new();
    for (folders, words, why) in FORBIDDEN {
        for folder in *folders {
            let mut paths = files(&root().join(folder), &[".rs"]);
            paths.push(root().join(format!("{folder}.rs")));
            for path in paths.iter().filter(|path| !shown(path).ends_with("/tests.rs")) {
                for (number, line) in code(path) {
                    for word in words.iter().filter(|word| line.contains(**word)) {
                        faults.push(format!("{}:{number}: {word} ({why})", shown(path)));
                    }
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn pingora_is_named_in_the_adapter_only() {
    let mut faults = Vec::new();
    for path in files(&root().join("proxy/src"), &[".rs"]) {
        if shown(&path).starts_with("proxy/src/engine") {
            continue;
        }
        for (number, line) in code(&path) {
            if line.contains("pingora_") || line.contains("pingora-") {
                faults.push(format!("{}:{number}: {}", shown(&path), line.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn files_stay_small_and_are_never_mod_rs() {
    let mut faults = Vec::new();
    for path in files(&root(), &[".rs"]) {
        let lines = code(&path).iter().filter(|(_, line)| !line.trim().is_empty()).count();
        if lines > 500 {
            faults.push(format!("{}: {lines} lines of code", shown(&path)));
        }
        if path.ends_with("mod.rs") {
            faults.push(format!("{}: mod.rs", shown(&path)));
        }
    }
    none(&faults);
}

#[test]
fn every_file_begins_with_what_it_is() {
    let starts = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.starts_with("//!") || path.ends_with("tests.rs")
    };
    let faults: Vec<String> =
        files(&root(), &[".rs"]).iter().filter(|path| !starts(path)).map(|p| shown(p)).collect();
    none(&faults);
}

/// Which of our crates each may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("config/Cargo.toml", &[]),
    ("proxy/Cargo.toml", &["kubeng-config"]),
    ("controller/Cargo.toml", &["kubeng-config"]),
    ("admin-ui/Cargo.toml", &["kubeng-config", "kubeng-controller"]),
];

#[test]
fn crates_point_only_where_the_architecture_says() {
    let mut faults = Vec::new();
    for (manifest, allowed) in ARROWS {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap_or_default();
        for line in dependencies.lines().filter(|line| line.starts_with("kubeng-")) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if !allowed.contains(&name) {
                faults.push(format!("{manifest}: {name}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_filter_and_policy_has_its_file_where_it_belongs() {
    let mut faults = Vec::new();
    for path in files(&root().join("config/src/filter"), &[".rs"]) {
        let twin = root().join("proxy/src/filter").join(path.file_name().unwrap());
        if !twin.exists() {
            faults.push(format!("{} has no {}", shown(&path), shown(&twin)));
        }
    }
    none(&faults);
}
