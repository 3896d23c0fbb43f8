//! Names from outside, reduced to one path component that every file system takes.

use sanitize_filename::{Options, sanitize_with_options};

const FALLBACK: &str = "file";
/// Leaves room for a number and stays below the 255 bytes of common file systems.
const MAX_LEN: usize = 200;

/// One safe path component: no separators, no control or reserved characters, no names that
/// Windows reserves, not hidden, not empty, not too long.
#[must_use]
pub fn safe_file_name(name: &str) -> String {
    let options = Options { windows: true, truncate: true, replacement: "_" };
    let name = sanitize_with_options(name, options);
    let name = name.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= 20 => name.split_at(dot),
        _ => (name, ""),
    };
    let stem = &stem[..stem.floor_char_boundary(MAX_LEN - extension.len())];
    if stem.is_empty() { FALLBACK.to_owned() } else { format!("{stem}{extension}") }
}

/// `photo.png` with number 2 is `photo-2.png`.
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
            ("../../etc/passwd", "_.._etc_passwd"),
            ("/abs", "_abs"),
            ("..", "_"),
            ("", "file"),
            (".hidden", "hidden"),
            ("CON", "_"),
            ("a\0b\n", "a_b_"),
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
