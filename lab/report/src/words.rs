//! The words of the report, from the files in `text/`.

use clap::ValueEnum;
use evidence::chart::localized;
use evidence::gantt;
use evidence::judge::Translations;
use evidence::pictures::ComparisonWords;
use serde::{Deserialize, Serialize};

/// The language of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Indonesian.
    Id,
    /// English.
    En,
}

impl Language {
    /// The words of the language, as TOML text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Id => include_str!("../text/id.toml"),
            Self::En => include_str!("../text/en.toml"),
        }
    }
}

/// The words that this program needs; the templates read the other words.
#[derive(Debug, Clone, Deserialize)]
pub struct Words {
    /// The words of the network's picture.
    pub network: NetworkWords,
    /// The words of the section on the output.
    pub output: OutputWords,
    /// The decimal mark.
    pub decimal: char,
    /// The sentences of the verdicts, by their English templates.
    pub verdicts: Translations,
    timeline: TimelineWords,
    comparison: ChartWords,
}

/// The words of the network's picture.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct NetworkWords {
    /// The word for the client.
    pub client: String,
    /// The word for a server.
    pub server: String,
    /// The word for the gateway.
    pub gateway: String,
    /// The word for the switch.
    pub switch: String,
}

/// The words of the section on the output.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct OutputWords {
    /// The words after the number of omitted lines of a terminal.
    pub omitted: String,
    /// The sentence about the times, with the placeholders `{total}` and `{overhead}`.
    pub timing: String,
    /// The words that follow if the times are of several runs, with the placeholder `{runs}`.
    pub medians: String,
}

#[derive(Debug, Clone, Deserialize)]
struct TimelineWords {
    phases: [String; 6],
    worker: String,
    more: String,
}

#[derive(Debug, Clone, Deserialize)]
struct ChartWords {
    total: String,
    overhead: String,
    seconds: String,
    milliseconds: String,
}

impl Words {
    /// Parses the text of a file of words.
    ///
    /// # Errors
    /// The text is no TOML, or lacks a word.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// A number with so many digits after the decimal mark.
    #[must_use]
    pub fn number(&self, value: f64, digits: usize) -> String {
        localized(format!("{value:.digits$}"), self.decimal)
    }

    /// The words of timelines.
    #[must_use]
    pub fn timeline(&self) -> gantt::Words {
        let TimelineWords { phases, worker, more } = self.timeline.clone();
        gantt::Words { phases, worker, more, decimal: self.decimal }
    }

    /// The words of the comparison.
    #[must_use]
    pub fn comparison(&self) -> ComparisonWords {
        let ChartWords { total, overhead, seconds, milliseconds } = self.comparison.clone();
        ComparisonWords { total, overhead, seconds, milliseconds, decimal: self.decimal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str, table: &toml::Table, into: &mut Vec<String>) {
        for (key, value) in table {
            let path = format!("{prefix}.{key}");
            match value {
                // English is the language of the verdicts themselves.
                toml::Value::Table(_) if path == ".verdicts" => {}
                toml::Value::Table(table) => keys(&path, table, into),
                _ => into.push(path),
            }
        }
    }

    #[test]
    fn every_sentence_of_the_verdicts_is_translated() {
        let templates = evidence::judge::templates();
        assert!(templates.len() > 25, "{templates:?}");
        let words = Words::parse(Language::Id.text()).unwrap();
        for template in &templates {
            let translation = words.verdicts.get(*template);
            let translation = translation.unwrap_or_else(|| panic!("no {template:?}"));
            let places = template.matches("{}").count();
            for place in 1..=places {
                assert!(translation.contains(&format!("{{{place}}}")), "{translation}");
            }
        }
        assert!(words.verdicts.keys().all(|key| templates.contains(&key.as_str())));
    }

    #[test]
    fn both_languages_have_the_same_words() {
        let [id, en] = [Language::Id, Language::En].map(|language| {
            Words::parse(language.text()).unwrap();
            let mut found = Vec::new();
            keys("", &language.text().parse().unwrap(), &mut found);
            found.sort();
            found
        });
        assert_eq!(id, en);
    }
}
