//! The file name in a `Content-Disposition` header (RFC 6266, RFC 8187).

use percent_encoding::percent_decode;

/// Returns the name that a header's value gives the file: that of `filename*` if it is valid, else
/// that of `filename`. Folders before the name are cut off, as RFC 6266, section 4.3, asks.
pub(super) fn file_name(value: &[u8]) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    for (key, value) in parameters(value) {
        match key.to_ascii_lowercase().as_slice() {
            b"filename" => plain = plain.or(Some(String::from_utf8_lossy(&value).into_owned())),
            b"filename*" => extended = extended.or(decoded(&value)),
            _ => {}
        }
    }
    let name = extended.or(plain)?;
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Decodes a value such as `UTF-8''na%C3%AFve.txt`.
fn decoded(value: &[u8]) -> Option<String> {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = percent_decode(encoded);
    if charset.eq_ignore_ascii_case(b"UTF-8") {
        bytes.decode_utf8().ok().map(|name| name.into_owned())
    } else if charset.eq_ignore_ascii_case(b"ISO-8859-1") {
        Some(bytes.map(char::from).collect())
    } else {
        None
    }
}

/// Returns the parameters `; key=value` of a header's value; a quoted value loses its quotes.
fn parameters(value: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = after(value, b';');
    while let Some(text) = rest {
        let end = text.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(text.len());
        let key = text[..end].trim_ascii();
        rest = match text.get(end) {
            Some(b'=') => {
                let text = text[end + 1..].trim_ascii_start();
                let (value, rest) =
                    if text.starts_with(b"\"") { quoted(&text[1..]) } else { token(text) };
                found.push((key, value));
                after(rest, b';')
            }
            _ => after(&text[end..], b';'),
        };
    }
    found
}

/// Returns what follows the first `separator`.
fn after(text: &[u8], separator: u8) -> Option<&[u8]> {
    text.iter().position(|byte| *byte == separator).map(|at| &text[at + 1..])
}

fn token(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
    (text[..end].trim_ascii_end().to_vec(), &text[end..])
}

/// Splits the text after an opening quote at the closing one. A backslash quotes one character.
fn quoted(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut value = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' if at < text.len() => {
                value.push(text[at]);
                at += 1;
            }
            byte => value.push(*byte),
        }
    }
    (value, &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_found_as_browsers_find_them() {
        for (value, name) in [
            ("attachment; filename=\"data.csv\"", Some("data.csv")),
            ("attachment; filename=data.csv", Some("data.csv")),
            ("ATTACHMENT ; FileName = data.csv ; size=3", Some("data.csv")),
            ("inline; filename=\"a;b \\\"c\\\".txt\"", Some("a;b \"c\".txt")),
            ("attachment; filename=x; filename*=UTF-8''na%C3%AFve%20.txt", Some("naïve .txt")),
            ("attachment; filename*=iso-8859-1'en'%A3.txt; filename=x", Some("£.txt")),
            ("attachment; filename*=KOI8-R''%C1; filename=x", Some("x")),
            ("attachment; filename*=UTF-8''%FF; filename=x", Some("x")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"C:\\\\Users\\\\a.doc\"", Some("a.doc")),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=\"a/\"", None),
            ("attachment; foo", None),
            ("attachment; filename=\"open", Some("open")),
            ("attachment", None),
            ("", None),
        ] {
            assert_eq!(file_name(value.as_bytes()).as_deref(), name, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            let name = file_name(&value).unwrap_or_default();
            prop_assert!(!name.contains('/'));
        }
    }
}
