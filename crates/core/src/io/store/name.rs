//! File names from outside, reduced to one path component that every file system accepts.

use sanitise_file_name::{Options, sanitise_with_options};

use super::PREFIX;
use crate::visible::is_safe_to_show;

/// The longest name, in bytes. It leaves room for a number, within the 255 bytes of common file
/// systems.
pub(super) const LONGEST_NAME: usize = 200;

const OPTIONS: Options<Option<char>> = Options {
    length_limit: LONGEST_NAME,
    trim_more_punctuation: false,
    six_measures_of_barley: "file",
    ..Options::DEFAULT
};

/// Makes one safe path component of a name: no separators, no control, reordering, invisible or
/// reserved characters, no hyphen at its begin (a program would take it for an option), no blanks
/// at its ends, no names that Windows reserves, not empty. A longer name is cut to 200 bytes, in
/// front of its extension. A single leading dot is kept, unless the name is one of our temporary
/// files.
#[must_use]
pub fn safe_file_name(name: &str) -> String {
    let name = without_invisible(name);
    let shown = without_dot(&name);
    let is_hidden = name.strip_prefix('.').is_some_and(|rest| rest.starts_with(is_of_a_name));
    let hidden = format!(".{shown}");
    let is_ours =
        hidden.get(..PREFIX.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(PREFIX));
    if is_hidden && !is_ours { hidden } else { shown }
}

/// Shortens a safe name to at most `longest` bytes; its extension is kept where it can be.
#[must_use]
pub fn shortened_file_name(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let (dot, shown) = name.strip_prefix('.').map_or(("", name), |shown| (".", shown));
    let length_limit = longest.saturating_sub(dot.len());
    let shortened = sanitise_with_options(shown, &Options { length_limit, ..OPTIONS });
    format!("{dot}{shortened}")
}

/// The same as [`safe_file_name`], without a leading dot.
#[must_use]
pub fn shown_file_name(name: &str) -> String {
    without_dot(&without_invisible(name))
}

fn without_dot(name: &str) -> String {
    // The library takes `.hidden` for an extension and leaves its dot.
    let shown = name.trim_start_matches(|first: char| first == '.' || first.is_whitespace());
    let mut safe = sanitise_with_options(shown, &OPTIONS);
    if safe.starts_with('-') {
        safe.replace_range(..1, "_");
    }
    safe
}

/// Drops the characters that only shape their neighbours, and replaces the others that cannot be
/// seen, but for control characters and ends of lines: the library replaces those.
fn without_invisible(name: &str) -> String {
    let kept = name.chars().filter(|character| !only_shapes(*character));
    let is_kept = |c: char| is_safe_to_show(c) || c.is_control() || c.is_whitespace();
    kept.map(|character| if is_kept(character) { character } else { '_' }).collect()
}

/// Whether a character only shapes its neighbours: joiners, variation selectors, tags. Emoji and
/// Persian words contain them, and can be read without them.
fn only_shapes(character: char) -> bool {
    matches!(
        character,
        '\u{180b}'..='\u{180d}'
            | '\u{180f}'
            | '\u{200c}'
            | '\u{200d}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{e0000}'..='\u{e01ef}'
    )
}

/// Whether a character after a leading dot makes the name a hidden file's, and not a path's.
fn is_of_a_name(second: char) -> bool {
    !matches!(second, '.' | '/' | '\\') && !second.is_whitespace() && !second.is_control()
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
            (".env", ".env"),
            (".gitignore.txt", ".gitignore.txt"),
            ("..env", "env"),
            (". env", "env"),
            ("./env", "_env"),
            (".siar-0123-4.part", "siar-0123-4.part"),
            (".SIAR-0123-4.part", "SIAR-0123-4.part"),
            (".\0siar-0123-4.part", "_siar-0123-4.part"),
            ("CON", "CON_"),
            ("con.txt", "con_.txt"),
            ("a\u{202e}gnp.exe", "a_gnp.exe"),
            ("a\0b\n", "a_b"),
            ("dir\\file.txt", "dir_file.txt"),
            ("-rf", "_rf"),
            ("--", "_-"),
            (" -x.txt ", "_x.txt"),
            (".-x", "._x"),
            ("\u{200d}-x", "_x"),
            ("a\u{200e}\u{61c}b", "a__b"),
            ("\u{feff}\u{200b}a.txt", "__a.txt"),
            ("a\u{ad}\u{34f}\u{180e}\u{2060}\u{fff9}b", "a_____b"),
            ("a\u{2028}b\u{a0}", "a b"),
            ("a\u{9b}31m", "a_31m"),
            ("a\u{e000}\u{fdd0}\u{10fffe}b", "a___b"),
            (".\u{200d}siar-0123-4.part", "siar-0123-4.part"),
            ("👩\u{200d}💻\u{fe0f}\u{e0067}\u{e007f}.png", "👩💻.png"),
            ("e\u{301}.txt", "e\u{301}.txt"),
            ("می\u{200c}خواهم.txt", "میخواهم.txt"),
            ("تقرير 2.pdf", "تقرير 2.pdf"),
            ("文件.txt", "文件.txt"),
            ("नमस्ते.txt", "नमस्ते.txt"),
        ] {
            assert_eq!(safe_file_name(from), to, "{from:?}");
        }
        assert_eq!(shown_file_name(".env"), "env");
        assert_eq!(shown_file_name(".-env"), "_env");
        let long = "é".repeat(150);
        let cut = format!("{}.jpeg", "é".repeat(97));
        assert_eq!(safe_file_name(&format!("{long}.jpeg")), cut);
        assert_eq!(shortened_file_name("photography.png", 12), "photogra.png");
        assert_eq!(shortened_file_name(".photography.png", 13), ".photogra.png");
        assert_eq!(shortened_file_name("photo.png", 10), "photo.png");
        assert_eq!(with_number(".env", 2), ".env-2");
        assert_eq!(with_number("photo.png", 2), "photo-2.png");
        assert_eq!(with_number("photo", 2), "photo-2");
    }

    proptest! {
        #[test]
        fn always_one_safe_component(name in ".{0,400}") {
            let safe = safe_file_name(&name);
            prop_assert!(!safe.is_empty() && safe.len() <= 255);
            prop_assert!(!safe.contains(['/', '\\', '\0']) && !safe.starts_with(PREFIX));
            prop_assert!(!shown_file_name(&name).starts_with(['.', '-']));
            prop_assert!(safe.chars().all(is_safe_to_show) && !safe.starts_with('-'));
            prop_assert_eq!(safe.trim(), safe.as_str());
            prop_assert_eq!(std::path::Path::new(&safe).components().count(), 1);
        }
    }
}
