//! What a report shows: data for the templates, and pictures beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lab::bench::summary::Spread;
use lab::grade::grade;
use lab::manifest::{FileEntry, Manifest, NodeDir, NodeEntry, Role, StyleRuns, Timing};
use lab::pictures;
use serde::Serialize;
use siar_core::event::Style;

use crate::words::{Language, OutputWords, Words};
use crate::{ReportError, programs, topology};

/// Whose report it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Student {
    /// Name.
    pub author: Option<String>,
    /// Number.
    pub student_id: Option<String>,
    /// Course.
    pub course: Option<String>,
}

/// A source file in the report.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// Where it stands.
    pub path: &'static str,
    /// Its text without tests.
    pub code: &'static str,
}

/// One of the four programs.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Its name, the key of its words.
    pub name: String,
    /// The script that it mirrors.
    pub mirrors: &'static str,
    /// Its files.
    pub sources: Vec<Source>,
}

/// A terminal as it was.
#[derive(Debug, Clone, Serialize)]
pub struct Terminal {
    /// Whose.
    pub node: String,
    /// What was typed.
    pub command: String,
    /// What it showed.
    pub text: String,
}

/// A server's copy of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Copy {
    /// The server.
    pub node: String,
    /// The beginning of its BLAKE3; `None` if there is no copy.
    pub digest: Option<String>,
    /// Whether it is the same as the source.
    pub same: bool,
}

/// One received file.
#[derive(Debug, Clone, Serialize)]
pub struct ReceivedFile {
    /// Its name.
    pub name: String,
    /// Of its source, as hexadecimal digits.
    pub source: String,
    /// One for each server.
    pub copies: Vec<Copy>,
}

/// A picture that a server received.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// Its file's name.
    pub name: String,
    /// The key of its bytes in [`Content::pictures`].
    pub picture: String,
}

/// One style's output.
#[derive(Debug, Clone, Serialize)]
pub struct Output {
    /// Which.
    pub style: Style,
    /// How long it took, in words.
    pub timing: String,
    /// The client's first.
    pub terminals: Vec<Terminal>,
    /// All files of the list.
    pub files: Vec<ReceivedFile>,
    /// The pictures among them, by server.
    pub received: Vec<(String, Vec<Picture>)>,
    /// The key of its timeline in [`Content::pictures`].
    pub timeline: String,
}

/// A style in the comparison.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonRow {
    /// Which.
    pub style: Style,
    /// Median in seconds.
    pub total: String,
    /// Median in milliseconds.
    pub overhead: String,
    /// How many.
    pub runs: usize,
    /// Whether every file arrived whole in all of them.
    pub complete: bool,
}

/// Everything that the templates show.
#[derive(Debug, Clone, Serialize)]
pub struct Content {
    /// Whose report it is.
    pub student: Student,
    /// When the run was made, for people.
    pub date: String,
    /// On what.
    pub machine: String,
    /// See [`Manifest::has_switch`].
    pub has_switch: bool,
    /// Broadcast address and port.
    pub target: String,
    /// For people.
    pub delay: String,
    /// Per cent.
    pub loss: u8,
    /// Of the clients.
    pub arguments: String,
    /// The network's nodes.
    pub nodes: Vec<NodeEntry>,
    /// The URL list, sizes for people.
    pub files: Vec<(FileEntry, String)>,
    /// Keys of the student's screenshots in `pictures`.
    pub screenshots: Vec<String>,
    /// The four programs.
    pub programs: Vec<Program>,
    /// What they share.
    pub shared: Source,
    /// The receiver.
    pub server: Source,
    /// One for each style that ran.
    pub outputs: Vec<Output>,
    /// One for each style that ran.
    pub comparison: Vec<ComparisonRow>,
    /// Items, whether they passed, and why.
    pub verdicts: Vec<(String, bool, String)>,
    /// By their file names; SVG, PNG, JPEG, GIF or WebP.
    #[serde(skip)]
    pub pictures: BTreeMap<String, Vec<u8>>,
}

/// The keys of pictures that every report has.
pub const NETWORK_PICTURE: &str = "network.svg";
/// The comparison's.
pub const COMPARISON_PICTURES: [&str; 2] = ["comparison-total.svg", "comparison-overhead.svg"];
/// A terminal longer than this is cut in its middle.
const MAX_LINES: usize = 80;
/// Of a copy's digest; the source's is shown whole.
const SHOWN_DIGITS: usize = 16;
const MAX_COLUMNS: usize = 400;

impl Content {
    /// Gathers everything from the run in `dir`.
    ///
    /// # Errors
    /// The folder lacks something, or a screenshot is no picture.
    pub fn gather(
        dir: &Path,
        language: Language,
        student: Student,
        screenshots: &[PathBuf],
    ) -> Result<Self, ReportError> {
        let words = Words::parse(language.text())?;
        let manifest = Manifest::read(dir).map_err(ReportError::Run)?;
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
        let verdicts = grade(dir).verdicts;
        // The report cannot be judged before it is there.
        let verdicts =
            verdicts.into_iter().filter(|verdict| verdict.item != lab::grade::Item::Report);
        Ok(Self {
            student,
            date: manifest.time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            machine: manifest.machine.clone(),
            has_switch: manifest.has_switch,
            target: format!("{}, UDP {}", manifest.target, manifest.port),
            delay: lab::timeline::duration(manifest.delay_ms as f64 / 1e3),
            loss: manifest.loss,
            arguments: manifest.arguments.join(" "),
            nodes: manifest.nodes.clone(),
            files: manifest.files.iter().map(|file| (file.clone(), size(file.bytes))).collect(),
            screenshots: keys,
            programs: manifest.styles.iter().map(|runs| program(runs.style)).collect(),
            shared: source(&programs::SHARED),
            server: source(&programs::SERVER),
            comparison: manifest.styles.iter().map(comparison_row).collect(),
            outputs,
            verdicts: verdicts
                .map(|verdict| (verdict.item.to_string(), verdict.passed, verdict.reason))
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
    let last = runs.runs.last();
    let (total, overhead) = last.map_or((f64::NAN, f64::NAN), |run| (run.total, run.overhead));
    let timing = words.output.timing.replace("{total}", &format!("{total:.3}"));
    Ok(Output {
        style,
        timing: timing.replace("{overhead}", &format!("{:.1}", overhead * 1e3)),
        terminals,
        files: files.collect(),
        received,
        timeline: key,
    })
}

fn comparison_row(runs: &StyleRuns) -> ComparisonRow {
    let median = |value: fn(&Timing) -> f64| {
        Spread::of(runs.runs.iter().map(value)).map_or(f64::NAN, |spread| spread.median)
    };
    let (total, overhead) = (median(|run| run.total), median(|run| run.overhead));
    ComparisonRow {
        style: runs.style,
        total: format!("{total:.3} s"),
        overhead: format!("{:.1} ms", overhead * 1e3),
        runs: runs.runs.len(),
        complete: runs.runs.iter().all(|run| run.complete),
    }
}

/// What a log holds, without colours; long ones are cut in the middle, and say so.
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

/// Takes out what moves a terminal's cursor or colours its text, see ECMA-48.
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

/// Of the kinds that both outputs can show.
fn picture_extension(bytes: &[u8]) -> Option<&'static str> {
    let kind = infer::get(bytes)?.extension();
    ["png", "jpg", "gif", "webp"].into_iter().find(|known| *known == kind)
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().si().to_string()
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
        let words = OutputWords { omitted: "lines not shown".into(), timing: String::new() };
        let text = terminal(file.path(), &words).unwrap();
        assert!(text.starts_with("line 0\n") && text.ends_with("line 999"), "{text}");
        assert!(text.contains("921 lines not shown"), "{text}");
        assert_eq!(text.lines().count(), MAX_LINES);
    }
}
