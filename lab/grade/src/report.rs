//! The verdict on the report: whether the PDF has the assignment's four sections.

use std::path::Path;

use evidence::judge::Judgement;
use lopdf::Document;

/// The PDF's name in a run's folder.
const FILE_NAME: &str = "report.pdf";

/// The letter of each section in the assignment, and words in Indonesian or English; the
/// section's title must have one of the words.
const SECTIONS: [(&str, &[&str]); 4] = [
    ("a", &["kasus", "case"]),
    ("b", &["jaringan", "network"]),
    ("c", &["program"]),
    ("d", &["output", "hasil", "keluaran"]),
];

/// Judges the titles in the PDF's outline or, if there is no outline, the lines of its text.
pub(super) fn judge(dir: &Path) -> Judgement {
    let path = dir.join(FILE_NAME);
    if !path.exists() {
        return Err(format!("there is no {FILE_NAME}").into());
    }
    let document = Document::load(&path).map_err(|error| format!("{FILE_NAME}: {error}"))?;
    let pages = document.get_pages().len();
    let titles = outline(&document).unwrap_or_else(|| lines(&document));
    for (letter, words) in SECTIONS {
        if !titles.iter().any(|title| is_title(title, letter, words)) {
            return Err(format!("{FILE_NAME} lacks section {letter} ({})", words[0]).into());
        }
    }
    Ok(format!("{pages} pages, sections a, b, c and d").into())
}

fn outline(document: &Document) -> Option<Vec<String>> {
    let contents = document.get_toc().ok()?;
    let titles: Vec<String> = contents.toc.into_iter().map(|entry| entry.title).collect();
    (!titles.is_empty()).then_some(titles)
}

fn lines(document: &Document) -> Vec<String> {
    let pages: Vec<u32> = document.get_pages().into_keys().collect();
    let text = document.extract_text(&pages).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether a line is a title such as `a. …`, `(a) …` or `a) …` with one of the words.
fn is_title(line: &str, letter: &str, words: &[&str]) -> bool {
    let line = line.trim().to_lowercase();
    let rest = line.trim_start_matches('(').strip_prefix(letter);
    rest.is_some_and(|rest| {
        rest.starts_with(['.', ')']) && words.iter().any(|word| rest.contains(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_have_their_letter_and_their_word() {
        let is_a = |line| is_title(line, "a", SECTIONS[0].1);
        assert!(is_a("a. Deskripsi kasus") && is_a("(a) The case") && is_a("A) KASUS"));
        assert!(!is_a("b. Kasus") && !is_a("a. Jaringan") && !is_a("a kasus") && !is_a(""));
    }
}
