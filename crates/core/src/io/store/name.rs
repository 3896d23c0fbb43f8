//! File names from outside, reduced to one path component that every file system accepts.

use sanitise_file_name::{Options, sanitise_with_options};

const OPTIONS: Options<Option<char>> = Options {
    // This leaves room for a number, within the 255 bytes of common file systems.
    length_limit: 200,
    trim_more_punctuation: false,
    six_measures_of_barley: "file",
    ..Options::DEFAULT
};

/// Makes one safe path component of a name: no separators, no control, reordering or reserved
/// characters, no names that Windows reserves, not hidden, not empty, not too long.
#[must_use]
pub fn safe_file_name(name: &str) -> String {
    // The library takes `.hidden` for an extension and leaves its dot.
    let shown = name.trim_start_matches(|first: char| first == '.' || first.is_whitespace());
    sanitise_with_options(shown, &OPTIONS)
}

/// Adds a number to a name: `photo.png` with number 2 is `photo-2.png`.
#[must_use]
pub fn with_number(name: &str, number: u32) -> String {
    match name.rfind('.') {
        Some(dot) if dot > 0 => format!("{}-{number}{}", &name[..dot], &name[dot..]),
        _ => format!("{name}-{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_one_component() {
        for (from, to) in [
            ("logo-its-1.png", "logo-its-1.png"),
            ("../../etc/passwd", "_._etc_passwd"),
            ("\t.CON", "CON_"),
            ("/abs", "_abs"),
            ("..", "file"),
            ("", "file"),
            (".hidden", "hidden"),
            ("CON", "CON_"),
            ("con.txt", "con_.txt"),
            ("a\u{202e}gnp.exe", "a_gnp.exe"),
            ("a\0b\n", "a_b"),
            ("dir\\file.txt", "dir_file.txt"),
        ] {
            assert_eq!(safe_file_name(from), to, "{from:?}");
        }
        assert_eq!(with_number("photo.png", 2), "photo-2.png");
        assert_eq!(with_number("photo", 2), "photo-2");
    }

    proptest! {
        #[test]
        fn always_one_safe_component(name in ".{0,400}") {
            let safe = safe_file_name(&name);
            prop_assert!(!safe.is_empty() && safe.len() <= 255);
            prop_assert!(!safe.contains(['/', '\\', '\0']) && !safe.starts_with('.'));
            prop_assert_eq!(std::path::Path::new(&safe).components().count(), 1);
        }
    }
}
