//! Sentences whose values are kept apart, so that they can be said in another language.

use std::collections::BTreeMap;
use std::fmt;

/// Translations of sentences, by their English templates. A translation names the values by their
/// numbers, `{1}` for the first one.
pub type Translations = BTreeMap<String, String>;

/// A sentence with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The English text, with `{}` in the place of each value.
    template: &'static str,
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Sentence(Sentence),
}

impl Sentence {
    /// Makes a sentence of a template with as many places as there are values.
    pub(super) fn new(template: &'static str, values: Vec<String>) -> Self {
        Self { template, values: values.into_iter().map(Value::Text).collect() }
    }

    /// The same with another sentence as the last value.
    pub(super) fn about(mut self, inner: Self) -> Self {
        self.values.push(Value::Sentence(inner));
        self
    }

    /// Returns the sentence in the language of the translations; without one it stays English.
    #[must_use]
    pub fn said_by(&self, translations: &Translations) -> String {
        let mut values = self.values.iter().map(|value| match value {
            Value::Text(text) => text.clone(),
            Value::Sentence(sentence) => sentence.said_by(translations),
        });
        let Some(translation) = translations.get(self.template) else {
            let mut parts = self.template.split("{}");
            let first = parts.next().unwrap_or_default().to_owned();
            return parts
                .fold(first, |text, part| text + &values.next().unwrap_or_default() + part);
        };
        // A value may itself look like the place of another one.
        let values: Vec<String> = values.collect();
        let mut parts = translation.split('{');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            let (number, rest) = part.split_once('}').unwrap_or(("", part));
            let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let value = index.and_then(|index| values.get(index));
            text + value.map_or("", String::as_str) + rest
        })
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said_by(&Translations::new()))
    }
}

/// A text in no particular language, such as the message of an error.
impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Self::new("{}", vec![text])
    }
}

/// Makes a [`Sentence`] of an English template and its values.
macro_rules! said {
    ($template:literal $(, $value:expr)* $(,)?) => {
        $crate::judge::Sentence::new($template, vec![$($value.to_string()),*])
    };
}
pub(super) use said;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_can_change_the_order() {
        let sentence = said!("{} of {}, {}", 3, "a {1}").about(said!("never {}", "seen"));
        assert_eq!(sentence.to_string(), "3 of a {1}, never seen");
        let translations = Translations::from([
            ("{} of {}, {}".to_owned(), "dari {2}: {1}, {3}".to_owned()),
            ("never {}".to_owned(), "tidak pernah {1}".to_owned()),
        ]);
        assert_eq!(sentence.said_by(&translations), "dari a {1}: 3, tidak pernah seen");
        assert_eq!(Sentence::from("a: b".to_owned()).said_by(&translations), "a: b");
    }
}
