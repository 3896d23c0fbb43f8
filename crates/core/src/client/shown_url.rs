//! URLs as people may see them: without their password, and without characters that a terminal
//! obeys or that cannot be seen.

use url::Url;

/// What stands in the place of a password.
const HIDDEN: &str = "***";

/// Returns `url` as it may be printed, logged and recorded: `user:***@` in the place of a password,
/// and control, text-turning and invisible characters escaped. Text that is no URL is treated so
/// too.
#[must_use]
pub fn shown_url(url: &str) -> String {
    if let Ok(mut parsed) = Url::parse(url)
        && parsed.has_authority()
    {
        if parsed.password().is_none() {
            return escaped(url);
        }
        if parsed.set_password(Some(HIDDEN)).is_ok() {
            return escaped(parsed.as_str());
        }
    }
    escaped(&without_password(url))
}

/// Hides what may be a password in a text that is not quite a URL; rather too much than too little.
fn without_password(text: &str) -> String {
    let (before, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let hidden = rest.rsplit_once('@').and_then(|(user_info, host)| {
        let (user, _) = user_info.split_once(':')?;
        Some(format!("{before}{user}:{HIDDEN}@{host}"))
    });
    hidden.unwrap_or_else(|| text.to_owned())
}

/// Escapes the characters that a terminal obeys, that turn the text, and that cannot be seen.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_unicode());
        }
    }
    shown
}

fn is_plain(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Letters, marks and selectors that have no look of their own, though Rust takes them for
    // printable.
    let is_blank = matches!(
        character,
        '\u{34f}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    );
    // After a letter, Rust escapes no mark that stands on it.
    !is_blank && String::from_iter(['a', character]).escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_as_it_was_given() {
        for url in [
            "https://www.its.ac.id/wp-content/uploads/2017/10/logo-its-1.png",
            "https://akcdn.detik.net.id/a.gif?d=1",
            "http://a/b c/it's \"quoted\" \\ na\u{ef}ve e\u{301} \u{65e5}\u{672c}.zip",
            "http://user@a/b:c@d",
            "http://a/u:p@b",
            "file:///srv/50%20%25.img",
        ] {
            assert_eq!(shown_url(url), url);
        }
    }

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("http://user:secret@a/b", "http://user:***@a/b"),
            ("https://:secret@a:8443/b?x=y@z", "https://:***@a:8443/b?x=y@z"),
            ("http:\\\\user:secret@a/b", "http://user:***@a/b"),
            ("http://user:s@cr:et@a/b", "http://user:***@a/b"),
            ("ht\ntp://user:secret@a/b", "http://user:***@a/b"),
            ("ftp://user:secret@a/b", "ftp://user:***@a/b"),
            // These are no URLs.
            ("http://user:secret@a b/c", "http://user:***@a b/c"),
            ("user:secret@a.b/c", "user:***@a.b/c"),
            ("a/b=http://user:secret@a/c", "a/b=http://user:***@a/c"),
            ("a:http://user:secret@a/c", "a:http://user:***@a/c"),
            ("http://user:sec/ret@a/c", "http://user:***@a/c"),
        ] {
            assert_eq!(shown_url(url), shown, "{url:?}");
        }
    }

    #[test]
    fn what_a_terminal_obeys_or_nobody_sees_is_escaped() {
        for character in [
            '\0',
            '\n',
            '\r',
            '\t',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            let shown = shown_url(&format!("http://a/b{character}c"));
            assert_eq!(shown, format!("http://a/b{}c", character.escape_unicode()));
        }
        let shown = shown_url("http://user:pw@a/\u{1b}[2J\u{202e}");
        assert_eq!(shown, "http://user:***@a/%1B[2J%E2%80%AE");
    }
}
