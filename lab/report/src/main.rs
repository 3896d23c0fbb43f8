//! The program of `cargo lab report`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use report::content::{Content, Student};
use report::words::Language;
use report::{ReportError, page, pdf};
use siar_core::io::store::temporary_file;
use stage::run_folder::REPORTS;
use stage::tool;

/// Makes the report of a run of the lab: report.pdf and report.html.
#[derive(Debug, Parser)]
#[command(name = "cargo lab report", bin_name = "cargo lab report", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true)]
struct Options {
    /// The run's folder, as `cargo lab` makes it
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    out: PathBuf,
    /// The report's language
    #[arg(long, value_enum, default_value_t = Language::Id)]
    lang: Language,
    /// Your name, for the title page
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Your student number
    #[arg(long, value_name = "ID")]
    student_id: Option<String>,
    /// The course
    #[arg(long, value_name = "COURSE")]
    course: Option<String>,
    /// A picture for section b, such as a screenshot of GNS3; repeatable
    #[arg(long, value_name = "FILE")]
    screenshot: Vec<PathBuf>,
    /// A Typst template in place of the built-in one
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Print the built-in template, as a start for your own
    #[arg(long)]
    print_template: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| report(options))
}

fn report(options: Options) -> Result<ExitCode, ReportError> {
    if options.print_template {
        print!("{}", pdf::TEMPLATE);
        return Ok(ExitCode::SUCCESS);
    }
    let is_anonymous = options.author.is_none();
    for path in make(options)? {
        println!("{}", path.display());
    }
    if is_anonymous {
        eprintln!(
            "the title page has no name: --author NAME, --student-id ID and --course COURSE fill it in"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes both files, and writes them only after both are made.
fn make(options: Options) -> Result<[PathBuf; 2], ReportError> {
    let template = match &options.template {
        None => pdf::TEMPLATE.to_owned(),
        Some(path) => fs::read_to_string(path)
            .map_err(|error| ReportError::File { path: path.clone(), error })?,
    };
    let Options { author, student_id, course, .. } = options;
    let student = Student { author, student_id, course };
    let content = Content::gather(&options.out, options.lang, student, &options.screenshot)?;
    let words = options.lang.text();
    let made =
        [pdf::typeset(&content, words, &template)?, page::render(&content, words)?.into_bytes()];
    let paths = REPORTS.map(|(name, _)| options.out.join(name));
    for (path, bytes) in paths.iter().zip(made) {
        write_whole(path, &bytes)
            .map_err(|error| ReportError::File { path: path.clone(), error })?;
    }
    Ok(paths)
}

/// Writes a file atomically, so that a failure leaves an earlier report as it was.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_file(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
