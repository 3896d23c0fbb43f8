//! The content of a report: data for the templates, and pictures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evidence::chart::localized;
use evidence::{gantt, judge, pictures};
use serde::Serialize;
use siar_core::event::Style;
use stage::manifest::{FileEntry, Manifest, NodeDir, NodeEntry, Role, StyleRuns, Timing};
use stage::spread::Spread;

use crate::words::{Language, OutputWords, Words};
use crate::{ReportError, programs, topology};

/// The author of a report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Student {
    /// The student's name.
    pub author: Option<String>,
    /// The student number.
    pub student_id: Option<String>,
    /// The name of the course.
    pub course: Option<String>,
}

/// A source file in the report.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// The file's path in the workspace.
    pub path: &'static str,
    /// The file's text without unit tests.
    pub code: &'static str,
}

/// One of the four programs.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// The program's name, which is the key of its words.
    pub name: String,
    /// The Python script that the program mirrors.
    pub mirrors: &'static str,
    /// The program's source files.
    pub sources: Vec<Source>,
}

/// The terminal output of a program.
#[derive(Debug, Clone, Serialize)]
pub struct Terminal {
    /// The node's name.
    pub node: String,
    /// The command.
    pub command: String,
    /// The output.
    pub text: String,
}

/// A server's copy of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Copy {
    /// The server's name.
    pub node: String,
    /// The beginning of the copy's BLAKE3 hash, in hexadecimal; `None` if there is no copy.
    pub digest: Option<String>,
    /// Whether the copy equals the source.
    pub same: bool,
}

/// One received file.
#[derive(Debug, Clone, Serialize)]
pub struct ReceivedFile {
    /// The file's name.
    pub name: String,
    /// The BLAKE3 hash of the source, in hexadecimal.
    pub source: String,
    /// The copies, one for each server.
    pub copies: Vec<Copy>,
}

/// A picture that a server received.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// The file's name.
    pub name: String,
    /// The key of the file's bytes in [`Content::pictures`].
    pub picture: String,
}

/// The output of one style.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// The style.
    pub style: Style,
    /// The times of the run, in words.
    pub timing: String,
    /// The terminals: the client's, then the servers'.
    pub terminals: Vec<Terminal>,
    /// The files of the URL list.
    pub files: Vec<ReceivedFile>,
    /// The received pictures, by server.
    pub received: Vec<(String, Vec<Picture>)>,
    /// The key of the style's timeline in [`Content::pictures`].
    pub timeline: String,
}

/// A style in the comparison.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonRow {
    /// The style.
    pub style: Style,
    /// The total time as text in seconds; of several runs the median and the range.
    pub total: String,
    /// The time without the simulated work, in the same way in milliseconds.
    pub overhead: String,
    /// The number of runs.
    pub runs: usize,
    /// Whether every file arrived whole in all runs.
    pub complete: bool,
}

/// Everything that the templates show.
#[derive(Debug, Clone, Serialize)]
pub struct Content {
    /// The author of the report.
    pub student: Student,
    /// The date and time of the run in UTC, as text.
    pub date: String,
    /// The machine, in words.
    pub machine: String,
    /// Whether the nodes had a network of their own, see [`Manifest::has_switch`].
    pub has_switch: bool,
    /// The broadcast address and the UDP port, as text.
    pub target: String,
    /// The simulated work, as text with a unit.
    pub delay: String,
    /// The part of the UDP packets that each server was told to drop, in per cent.
    pub loss: u8,
    /// The part that the servers did drop, in per cent, as text; `None` unless they were told to.
    pub measured_loss: Option<String>,
    /// Further options of the clients.
    pub arguments: String,
    /// The network's nodes.
    pub nodes: Vec<NodeEntry>,
    /// The files of the URL list, each with its size as text.
    pub files: Vec<(FileEntry, String)>,
    /// The keys of the student's screenshots in `pictures`.
    pub screenshots: Vec<String>,
    /// The four programs.
    pub programs: Vec<Program>,
    /// The source file that the four programs share.
    pub shared: Source,
    /// The source file of the server.
    pub server: Source,
    /// The outputs, one for each style that ran.
    pub outputs: Vec<Output>,
    /// The comparison, one row for each style that ran.
    pub comparison: Vec<ComparisonRow>,
    /// The verdicts: an item, whether the item passed, and the reason.
    pub verdicts: Vec<(String, bool, String)>,
    /// The pictures by file name; SVG, PNG, JPEG, GIF or WebP.
    #[serde(skip)]
    pub pictures: BTreeMap<String, Vec<u8>>,
}

/// The key of the network's picture.
pub const NETWORK_PICTURE: &str = "network.svg";
/// The keys of the comparison's charts.
pub const COMPARISON_PICTURES: [&str; 2] = ["comparison-total.svg", "comparison-overhead.svg"];
/// The most lines of a terminal; a longer terminal is cut in the middle.
const MAX_LINES: usize = 80;
/// The digits that are shown of a copy's hash; the source's hash is shown whole.
const SHOWN_DIGITS: usize = 16;
const MAX_COLUMNS: usize = 400;

impl Content {
    /// Gathers the content from the run in the folder `dir`.
    ///
    /// # Errors
    /// A file of the run is missing or damaged, or a screenshot is no picture.
    pub fn gather(
        dir: &Path,
        language: Language,
        student: Student,
        screenshots: &[PathBuf],
    ) -> Result<Self, ReportError> {
        let words = Words::parse(language.text())?;
        let manifest = Manifest::read_finished(dir).map_err(ReportError::Run)?;
        let mut pictures = BTreeMap::new();
        let network = topology::to_svg(&manifest, &words.network);
        pictures.insert(NETWORK_PICTURE.to_owned(), network.into_bytes());
        let charts = pictures::comparison(&manifest, &words.comparison());
        for (name, chart) in COMPARISON_PICTURES.into_iter().zip(charts) {
            pictures.insert(name.to_owned(), chart.to_svg().into_bytes());
        }
        let mut keys = Vec::new();
        for path in screenshots {
            let bytes = fs::read(path).map_err(ReportError::file(path))?;
            let extension = picture_extension(&bytes);
            let extension = extension.ok_or_else(|| ReportError::NoPicture(path.clone()))?;
            let key = format!("screenshot-{}.{extension}", keys.len() + 1);
            pictures.insert(key.clone(), bytes);
            keys.push(key);
        }
        let mut outputs = Vec::new();
        for runs in &manifest.styles {
            outputs.push(output(dir, &manifest, runs, &words, &mut pictures)?);
        }
        // These verdicts leave out the report, which does not exist yet.
        let verdicts = judge::verdicts(dir);
        Ok(Self {
            student,
            date: manifest.time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: manifest.machine.clone(),
            has_switch: manifest.has_switch,
            target: format!("{}, UDP {}", manifest.target, manifest.port),
            delay: gantt::duration(manifest.delay_ms as f64 / 1e3, words.decimal),
            loss: manifest.loss,
            measured_loss: manifest.measured_loss.map(|loss| words.number(loss, 1)),
            arguments: manifest.arguments.join(" "),
            nodes: manifest.nodes.clone(),
            files: manifest
                .files
                .iter()
                .map(|file| (file.clone(), size(file.bytes, words.decimal)))
                .collect(),
            screenshots: keys,
            programs: manifest.styles.iter().map(|runs| program(runs.style)).collect(),
            shared: source(&programs::SHARED),
            server: source(&programs::SERVER),
            comparison: manifest.styles.iter().map(|runs| comparison_row(runs, &words)).collect(),
            outputs,
            verdicts: verdicts
                .into_iter()
                .map(|verdict| {
                    let reason = verdict.reason.said_by(&words.verdicts);
                    (verdict.item.to_string(), verdict.passed, reason)
                })
                .collect(),
            pictures,
        })
    }
}

fn source(file: &programs::SourceFile) -> Source {
    Source { path: file.path, code: file.code() }
}

fn program(style: Style) -> Program {
    Program {
        name: style.to_string(),
        mirrors: programs::mirrored_script(style),
        sources: programs::sources(style).iter().map(source).collect(),
    }
}

fn output(
    dir: &Path,
    manifest: &Manifest,
    runs: &StyleRuns,
    words: &Words,
    pictures: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Output, ReportError> {
    let style = runs.style;
    let timeline = pictures::timeline(dir, manifest, style).map_err(ReportError::Run)?;
    let key = format!("timeline-{style}.svg");
    pictures.insert(key.clone(), timeline.to_svg(&words.timeline()).into_bytes());
    let client = manifest.nodes(Role::Client).next();
    let client_name = client.map_or("client", |node| node.name.as_str());
    let client = NodeDir::new(dir, style, client_name);
    let mut terminals = vec![Terminal {
        node: client_name.to_owned(),
        command: style.to_string(),
        text: terminal(&client.client_log(), &words.output)?,
    }];
    let mut received = Vec::new();
    for node in manifest.nodes(Role::Server) {
        let server = NodeDir::new(dir, style, &node.name);
        terminals.push(Terminal {
            node: node.name.clone(),
            command: "server".to_owned(),
            text: terminal(&server.server_log(), &words.output)?,
        });
        let mut shown = Vec::new();
        for file in &manifest.files {
            let Ok(bytes) = fs::read(server.files().join(&file.name)) else { continue };
            let Some(extension) = picture_extension(&bytes) else { continue };
            // Equal copies are stored once.
            let key = format!("{}.{extension}", &blake3::hash(&bytes).to_hex()[..16]);
            pictures.insert(key.clone(), bytes);
            shown.push(Picture { name: file.name.clone(), picture: key });
        }
        received.push((node.name.clone(), shown));
    }
    let files = manifest.files.iter().map(|file| {
        let copies = manifest.nodes(Role::Server).map(|node| {
            let path = NodeDir::new(dir, style, &node.name).files().join(&file.name);
            let digest = fs::read(path).map(|bytes| blake3::hash(&bytes).to_string()).ok();
            let same = digest.as_ref() == Some(&file.blake3);
            let digest = digest.map(|digest| digest[..SHOWN_DIGITS].to_owned());
            Copy { node: node.name.clone(), digest, same }
        });
        let copies = copies.collect();
        ReceivedFile { name: file.name.clone(), source: file.blake3.clone(), copies }
    });
    let ComparisonRow { total, overhead, .. } = comparison_row(runs, words);
    let timing = words.output.timing.replace("{total}", &total).replace("{overhead}", &overhead);
    let count = runs.runs.len();
    let medians = words.output.medians.replace("{runs}", &count.to_string());
    Ok(Output {
        style,
        timing: if count > 1 { format!("{timing} {medians}") } else { timing },
        terminals,
        files: files.collect(),
        received,
        timeline: key,
    })
}

fn comparison_row(runs: &StyleRuns, words: &Words) -> ComparisonRow {
    let figure = |value: fn(&Timing) -> f64, digits: usize, unit: &str| {
        let Some(spread) = Spread::of(runs.runs.iter().map(value)) else { return String::new() };
        let number = |value| words.number(value, digits);
        let median = format!("{} {unit}", number(spread.median));
        if runs.runs.len() > 1 {
            format!("{median} ({} – {})", number(spread.low), number(spread.high))
        } else {
            median
        }
    };
    ComparisonRow {
        style: runs.style,
        total: figure(|run| run.total, 3, "s"),
        overhead: figure(|run| run.overhead * 1e3, 1, "ms"),
        runs: runs.runs.len(),
        complete: runs.runs.iter().all(|run| run.complete),
    }
}

/// The text of a log without escape sequences. A long log is cut in the middle, with a note.
fn terminal(path: &Path, words: &OutputWords) -> Result<String, ReportError> {
    let text = fs::read(path).map_err(ReportError::file(path))?;
    let text = String::from_utf8_lossy(&text);
    let clean = |line: &str| -> String {
        let mut line: String = without_escapes(line);
        if let Some((cut, _)) = line.char_indices().nth(MAX_COLUMNS) {
            line.truncate(cut);
            line.push('…');
        }
        line
    };
    let lines: Vec<String> = text.lines().map(clean).collect();
    if lines.len() <= MAX_LINES {
        return Ok(lines.join("\n"));
    }
    let (head, tail) = (&lines[..MAX_LINES * 2 / 3], &lines[lines.len() - MAX_LINES / 3..]);
    let omitted = lines.len() - head.len() - tail.len();
    let note = format!("… {omitted} {} …", words.omitted);
    Ok([head, &[note], tail].concat().join("\n"))
}

/// Removes the escape sequences of a terminal, see ECMA-48.
fn without_escapes(line: &str) -> String {
    let mut clean = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            let _ = characters.find(char::is_ascii_alphabetic);
        } else if !character.is_control() || character == '\t' {
            clean.push(character);
        }
    }
    clean
}

/// The extension of a picture in a format that both the PDF and the page can show.
fn picture_extension(bytes: &[u8]) -> Option<&'static str> {
    let kind = infer::get(bytes)?.extension();
    ["png", "jpg", "gif", "webp"].into_iter().find(|known| *known == kind)
}

fn size(bytes: u64, decimal: char) -> String {
    localized(bytesize::ByteSize::b(bytes).display().si().to_string(), decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_terminal_is_cut_in_the_middle_and_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<String> =
            (0..1000).map(|line| format!("\u{1b}[31mline {line}\u{1b}[0m")).collect();
        fs::write(file.path(), lines.join("\n")).unwrap();
        let words = OutputWords {
            omitted: "lines not shown".into(),
            timing: String::new(),
            medians: String::new(),
        };
        let text = terminal(file.path(), &words).unwrap();
        assert!(text.starts_with("line 0\n") && text.ends_with("line 999"), "{text}");
        assert!(text.contains("921 lines not shown"), "{text}");
        assert_eq!(text.lines().count(), MAX_LINES);
    }
}
