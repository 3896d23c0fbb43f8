//! The report's words, from the files in `text/`.

use clap::ValueEnum;
use lab::pictures::ComparisonWords;
use lab::timeline;
use serde::{Deserialize, Serialize};

/// In which language a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// Indonesian.
    Id,
    /// English.
    En,
}

impl Language {
    /// Its words as TOML text.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Id => include_str!("../text/id.toml"),
            Self::En => include_str!("../text/en.toml"),
        }
    }
}

/// The words that this program needs itself; the rest is for the templates.
#[derive(Debug, Clone, Deserialize)]
pub struct Words {
    /// Of the network's picture.
    pub network: NetworkWords,
    /// Of the output's section.
    pub output: OutputWords,
    timeline: TimelineWords,
    comparison: ChartWords,
}

/// Words of the network's picture.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct NetworkWords {
    /// What the client is.
    pub client: String,
    /// What a server is.
    pub server: String,
    /// What the gateway is.
    pub gateway: String,
    /// What joins them.
    pub switch: String,
}

/// Words of the output's section.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct OutputWords {
    /// After the number of lines left out of a terminal.
    pub omitted: String,
    /// With `{total}` and `{overhead}`.
    pub timing: String,
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
    /// Reads a file such as those in `text/`.
    ///
    /// # Errors
    /// It is no TOML, or lacks a word.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// For timelines.
    #[must_use]
    pub fn timeline(&self) -> timeline::Words {
        let TimelineWords { phases, worker, more } = self.timeline.clone();
        timeline::Words { phases, worker, more }
    }

    /// For the comparison.
    #[must_use]
    pub fn comparison(&self) -> ComparisonWords {
        let ChartWords { total, overhead, seconds, milliseconds } = self.comparison.clone();
        ComparisonWords { total, overhead, seconds, milliseconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(prefix: &str, table: &toml::Table, into: &mut Vec<String>) {
        for (key, value) in table {
            let path = format!("{prefix}.{key}");
            match value {
                toml::Value::Table(table) => keys(&path, table, into),
                _ => into.push(path),
            }
        }
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
