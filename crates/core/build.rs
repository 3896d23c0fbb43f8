//! Tells the code which commit and which target it is built from: `--version` shows both.

use std::path::Path;
use std::process::Command;

/// The commit, for builds outside a Git repository and for reproducible ones.
const COMMIT_VARIABLE: &str = "SIAR_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={COMMIT_VARIABLE}");
    let given = std::env::var(COMMIT_VARIABLE).ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit).unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo::rustc-env=SIAR_BUILD_COMMIT={commit}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=SIAR_BUILD_TARGET={target}");
}

/// Returns the short name of the commit that is checked out.
fn commit() -> Option<String> {
    // Each commit and each switch of branches adds a line to this log.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
