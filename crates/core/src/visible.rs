//! Text from outside as it may be shown: a terminal does not obey it, it stays on its line, and its
//! reader sees all of it.

use std::borrow::Cow;

/// Whether a character can be shown as it is. The others move the cursor or end the line, turn the
/// text around them, cannot be seen, or have no agreed shape.
#[must_use]
pub fn is_safe_to_show(character: char) -> bool {
    match character {
        ' '..='~' => true,
        _ if character.is_control() || is_noncharacter(character) => false,
        // The soft hyphen, the grapheme joiner, the Arabic mark of direction.
        '\u{ad}' | '\u{34f}' | '\u{61c}' => false,
        // Blank Braille, fillers of Hangul and vowels of Khmer that cannot be seen.
        '\u{2800}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{17b4}'
        | '\u{17b5}' => false,
        // Variation selectors and the vowel separator of Mongolian; variation selectors.
        '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' => false,
        // Spaces without width, joiners, marks of direction; separators of lines and paragraphs,
        // embeddings and overrides; invisible operators, isolates; the byte order mark.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => false,
        '\u{2060}'..='\u{206f}' | '\u{feff}' => false,
        // Private use.
        '\u{e000}'..='\u{f8ff}' => false,
        // Annotations between lines.
        '\u{fff0}'..='\u{fffb}' => false,
        // Format controls of hieroglyphs, shorthand and music.
        '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => false,
        // Planes without characters, tags, more variation selectors, private use.
        '\u{40000}'..='\u{10ffff}' => false,
        _ => true,
    }
}

fn is_noncharacter(character: char) -> bool {
    // The last two of each plane.
    matches!(character, '\u{fdd0}'..='\u{fdef}') || u32::from(character) & 0xfffe == 0xfffe
}

/// Returns one line of text in which every character that cannot be shown is an escape sequence.
/// The text can contain such sequences itself: it cannot be read back for sure.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    with_escapes(text, push_escape)
}

/// The same for a text that has lines of its own.
#[must_use]
pub fn escaped_lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// Returns a JSON value, written on one line, with the escape sequences of JSON. Its value stays
/// the same: only strings can contain a character that cannot be shown.
#[must_use]
pub fn escaped_json(line: &str) -> Cow<'_, str> {
    with_escapes(line, push_json_escape)
}

/// Appends the escape sequence by which Python's `repr` shows a character: `\n`, `\x1b`, `\u202e`,
/// `\U000e0041`.
pub fn push_escape(character: char, out: &mut String) {
    match (character, u32::from(character)) {
        ('\n', _) => out.push_str("\\n"),
        ('\r', _) => out.push_str("\\r"),
        ('\t', _) => out.push_str("\\t"),
        (_, code @ ..=0xff) => out.push_str(&format!("\\x{code:02x}")),
        (_, code @ ..=0xffff) => out.push_str(&format!("\\u{code:04x}")),
        (_, code) => out.push_str(&format!("\\U{code:08x}")),
    }
}

fn push_json_escape(character: char, out: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]).iter() {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

fn with_escapes(text: &str, push_escape: fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(is_safe_to_show) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_safe_to_show(character) {
            shown.push(character);
        } else {
            push_escape(character, &mut shown);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that are not shown: each kind of them.
    const HIDDEN: &str = "\0\t\n\r\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\
        \u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2064}\u{2066}\
        \u{2069}\u{e000}\u{fdd0}\u{fe0f}\u{feff}\u{fff9}\u{fffb}\u{fffe}\u{1fffe}\u{e0001}\
        \u{e0041}\u{e007f}\u{e0100}\u{f0000}\u{10ffff}";

    #[test]
    fn what_is_not_shown_becomes_an_escape_sequence() {
        for character in HIDDEN.chars() {
            assert!(!is_safe_to_show(character), "{character:?}");
            let text = format!("a{character}b");
            assert!(escaped(&text).chars().all(|c| (' '..='~').contains(&c)), "{character:?}");
        }
        assert_eq!(
            escaped("a\r\n\t\u{1b}[31m\u{9b}\u{202e}\u{e0041}"),
            "a\\r\\n\\t\\x1b[31m\\x9b\\u202e\\U000e0041"
        );
        assert_eq!(escaped_lines("one\r\ntwo\u{9b}\n"), "one\\r\ntwo\\x9b\n");
    }

    #[test]
    fn ordinary_writing_stays_as_it_is() {
        for text in [
            "Café – 100 % ~ 'a' \"b\" \\n",
            "e\u{301}",
            "berkas untuk kelas",
            "ملف",
            "文件",
            "नमस्ते",
            "ไฟล์",
            "📷",
            "",
        ] {
            assert_eq!(escaped(text), text);
            assert!(matches!(escaped(text), Cow::Borrowed(_)), "{text:?}");
        }
    }

    #[test]
    fn json_keeps_its_value() {
        let line = serde_json::to_string(&[HIDDEN, "ملف"]).unwrap();
        let shown = escaped_json(&line);
        assert!(shown.chars().all(is_safe_to_show), "{shown:?}");
        assert!(shown.contains("\\udb40\\udc41") && shown.contains("ملف"), "{shown}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [HIDDEN, "ملف"]);
    }
}
