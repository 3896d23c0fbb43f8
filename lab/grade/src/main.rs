//! The program of `cargo lab grade`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::slice;

use clap::Parser;
use grade::{Grade, grade};
use stage::{StageError, tool};

/// Judges runs from their evidence, item by item; exits with 1 unless every item passes.
#[derive(Debug, Parser)]
#[command(name = "cargo lab grade", bin_name = "cargo lab grade", version = siar_core::VERSION)]
// `cargo lab` passes an option for the folder, which the user's option must override.
#[command(args_override_self = true)]
struct Options {
    /// The run's folder, as `cargo lab` makes it
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    out: PathBuf,
    /// Folders of several runs, in place of --out
    dirs: Vec<PathBuf>,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
    /// With several folders: the CSV file for the table
    #[arg(long, value_name = "FILE", default_value = "grades.csv")]
    csv: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    tool::run(|| grade_all(&options))
}

fn grade_all(options: &Options) -> Result<ExitCode, StageError> {
    let dirs = if options.dirs.is_empty() { slice::from_ref(&options.out) } else { &options.dirs };
    let grades: Vec<Grade> = dirs.iter().map(|dir| grade(dir)).collect();
    if options.json {
        let text = serde_json::to_string_pretty(&grades).map_err(io::Error::from);
        println!("{}", text.map_err(StageError::file(Path::new("standard output")))?);
    } else if let [only] = &grades[..] {
        print!("{}", grade::lines(only));
    } else {
        print!("{}", grade::table(&grades));
    }
    if grades.len() > 1 {
        grade::write_csv(&grades, &options.csv)?;
        eprintln!("with reasons: {}", options.csv.display());
    }
    Ok(tool::verdict(grades.iter().all(Grade::is_complete)))
}
