//! The PDF, which Typst typesets from a template, the words and the content. Typst reads only
//! files in memory and built-in fonts, so that equal input gives equal bytes.

use std::collections::BTreeMap;

use typst::diag::{FileError, FileResult, SourceDiagnostic};
use typst::foundations::{Bytes, Datetime, Duration};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World, WorldExt};
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

use crate::ReportError;
use crate::content::Content;

/// The built-in template.
pub const TEMPLATE: &str = include_str!("../templates/report.typ");

struct Files {
    library: LazyHash<Library>,
    book: LazyHash<FontBook>,
    fonts: Vec<Font>,
    main: Source,
    /// The files, by their paths in the template.
    files: BTreeMap<String, Bytes>,
}

/// Typesets `content` with `template` and with `words`, which is TOML text, into a PDF file.
///
/// # Errors
/// The template has an error; the result names its line.
pub fn typeset(content: &Content, words: &str, template: &str) -> Result<Vec<u8>, ReportError> {
    let mut files: BTreeMap<String, Bytes> = content
        .pictures
        .iter()
        .map(|(name, bytes)| (name.clone(), Bytes::new(bytes.clone())))
        .collect();
    files.insert("content.json".to_owned(), Bytes::new(serde_json::to_vec(content)?));
    files.insert("words.toml".to_owned(), Bytes::new(words.as_bytes().to_vec()));
    let fonts: Vec<Font> =
        typst_assets::fonts().flat_map(|font| Font::iter(Bytes::new(font))).collect();
    let main = id("report.typ").map_err(ReportError::Typst)?;
    let world = Files {
        library: LazyHash::new(Library::default()),
        book: LazyHash::new(FontBook::from_fonts(&fonts)),
        fonts,
        main: Source::new(main, template.to_owned()),
        files,
    };
    let fault = |faults: &[SourceDiagnostic]| ReportError::Typst(world.describe(faults));
    let document =
        typst::compile::<PagedDocument>(&world).output.map_err(|faults| fault(&faults))?;
    typst_pdf::pdf(&document, &PdfOptions::default()).map_err(|faults| fault(&faults))
}

fn id(path: &str) -> Result<FileId, String> {
    let path = VirtualPath::new(path).map_err(|error| format!("{error:?}"))?;
    Ok(RootedPath::new(VirtualRoot::Project, path).intern())
}

impl Files {
    /// The first error, with its line in the template.
    fn describe(&self, faults: &[SourceDiagnostic]) -> String {
        let Some(fault) = faults.first() else { return "failed".to_owned() };
        let line = self.range(fault.span).map(|range| {
            self.main.text().get(..range.start).map_or(0, |before| before.matches('\n').count()) + 1
        });
        let mut text = line.map_or_else(String::new, |line| format!("line {line}: "));
        text.push_str(&fault.message);
        text
    }
}

impl World for Files {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        &self.book
    }

    fn main(&self) -> FileId {
        self.main.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        if id == self.main.id() {
            return Ok(self.main.clone());
        }
        Err(FileError::NotSource)
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let path = id.get().vpath().get_without_slash();
        let bytes = self.files.get(path).cloned();
        bytes.ok_or_else(|| FileError::NotFound(path.into()))
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.get(index).cloned()
    }

    /// No date: a report has the date of its run, and equal input must give equal bytes.
    fn today(&self, _: Option<Duration>) -> Option<Datetime> {
        None
    }
}
