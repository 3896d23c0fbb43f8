//! The bill of materials: what the programs are made of, in CycloneDX 1.5 as JSON.

use serde_json::{Value, json};
use stage::programs::STYLES;
use stage::target::NodeTarget;

use super::{VERSION, cargo, output_of};
use crate::DistError;

/// Returns the bill for the programs that are built for `target`.
///
/// # Errors
/// Cargo cannot tell what they are made of.
pub fn bill(target: &NodeTarget) -> Result<String, DistError> {
    let mut command = cargo();
    command.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    command.args(["--format", "{p}|{l}", "--target", target.triple()]);
    command.args(["--package", "server", "--package", "lab"]);
    for style in STYLES {
        command.args(["--package", style.name()]);
    }
    let mut lines: Vec<_> = output_of(&mut command)?.lines().filter_map(component).collect();
    lines.sort_by_key(|component| component["bom-ref"].to_string());
    lines.dedup();
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": "siar",
                "version": VERSION,
                "licenses": [{ "expression": "MIT" }],
            },
        },
        "components": lines,
    });
    Ok(format!("{bill:#}\n"))
}

/// Returns the component of a line such as `url v2.5.4|MIT OR Apache-2.0`.
fn component(line: &str) -> Option<Value> {
    let (package, license) = line.trim_end_matches(" (*)").split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // A package of the workspace has its folder after the version.
    let is_own = words.next().is_some_and(|word| word.starts_with("(/"));
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("{name}@{version}"),
        "name": name,
        "version": version,
    });
    if !license.is_empty() {
        // Some packages still divide alternatives by a slash, which is no SPDX expression.
        let expression = license.replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if !is_own {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
    }
    Some(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_component() {
        let found = component("url v2.5.4|MIT/Apache-2.0 (*)").unwrap();
        assert_eq!(found["purl"], "pkg:cargo/url@2.5.4");
        assert_eq!(found["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let own = component("siar-core v0.1.0 (/x/crates/core)|MIT").unwrap();
        assert_eq!((&own["purl"], &own["name"]), (&Value::Null, &json!("siar-core")));
        assert_eq!(component(""), None);
    }
}
