//! The URL list: the URLs to download, their keys, and their order.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use url::Url;

use super::shown_url::{escaped, shown_url};

/// One task: a key and the URL to download.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Task {
    /// The task's key in the list.
    pub name: String,
    /// The URL: HTTP or HTTPS; from a command line also `file:`, for a local file.
    pub url: String,
    /// The name that the command line gives the file, if it does.
    pub file_name: Option<String>,
}

impl Task {
    /// Makes a task whose file has the name that its URL or its server gives it.
    #[must_use]
    pub fn new(name: &str, url: &str) -> Self {
        Self { name: name.to_owned(), url: url.to_owned(), file_name: None }
    }
}

/// The Python scripts' list (`library.py`, lines 10 to 17).
const BUILT_IN: [(&str, &str); 4] = [
    ("its", "https://www.its.ac.id/wp-content/uploads/2017/10/logo-its-1.png"),
    (
        "detik",
        "https://akcdn.detik.net.id/community/media/visual/2021/04/22/detikcon-ranadan-desktop-1.gif?d=1",
    ),
    (
        "file2",
        "https://file-examples-com.github.io/uploads/2018/04/file_example_MOV_1280_1_400x8.mov",
    ),
    ("file3", "https://file-examples-com.github.io/uploads/2017/02/zip_200.zip"),
];

/// The reason why a URL list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlListError {
    /// The file cannot be read.
    #[error("URL list {path}: {error}")]
    Read {
        /// The path of the list.
        path: PathBuf,
        /// The reason.
        error: std::io::Error,
    },
    /// The list is not a TOML table of strings.
    #[error("URL list {path}: expected lines like name = \"https://…\": {}", shown_lines(.error))]
    Parse {
        /// The path of the list.
        path: PathBuf,
        /// The reason.
        error: Box<toml::de::Error>,
    },
    /// An entry's key contains a control character, and so cannot begin a line or name a thread.
    #[error("{name:?} holds a control character: it cannot be a task's name")]
    Name {
        /// The entry's key.
        name: String,
    },
    /// An entry is not a URL that can be downloaded.
    #[error("{}: \"{}\" is not an http:// or https:// URL", escaped(.name), shown_url(.url))]
    NotAUrl {
        /// The entry's key.
        name: String,
        /// The entry's value.
        url: String,
    },
    /// An argument of the command line is neither a URL nor a path.
    #[error(
        "\"{}\" is neither an http://, https:// or file:// URL nor a file that is here{}",
        shown_url(.argument),
        scheme_hint(.argument)
    )]
    NoSuchFile {
        /// The argument as it was given.
        argument: String,
    },
    /// Two arguments of the command line have the same name.
    #[error("two files have the key {}: give each NAME=URL another name", escaped(.name))]
    Twice {
        /// The name.
        name: String,
    },
    /// The list is empty.
    #[error("URL list {path} is empty")]
    Empty {
        /// The path of the list.
        path: PathBuf,
    },
}

/// Returns the Python scripts' four files.
#[must_use]
pub fn built_in() -> Vec<Task> {
    BUILT_IN.map(|(name, url)| Task::new(name, url)).into()
}

/// Reads a TOML table `name = "url"`; the tasks keep its order.
///
/// # Errors
/// The file cannot be read, is no such table, is empty, or contains values that are not URLs.
pub fn read(path: &Path) -> Result<Vec<Task>, UrlListError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| UrlListError::Read { path: path.to_owned(), error })?;
    parse(path, &text)
}

/// Parses the text of the list at `path`.
///
/// # Errors
/// The errors are those of [`read`], except for reading the file.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Task>, UrlListError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| UrlListError::Parse { path: path.to_owned(), error: Box::new(error) })?;
    if table.is_empty() {
        return Err(UrlListError::Empty { path: path.to_owned() });
    }
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(url) => check(name, url),
            other => Err(UrlListError::NotAUrl { name, url: other.to_string() }),
        })
        .collect()
}

/// Returns the tasks of a command line's URLs and files, with the keys `url1`, `url2`, …. In
/// `NAME=URL` and `NAME=FILE`, `NAME` is the key, and the file's name at the servers. Only a command
/// line can name a local file: a list may come from a stranger, and must not disclose secrets.
///
/// # Errors
/// An argument is neither a URL nor a file, or two tasks have the same key.
pub fn from_arguments(arguments: &[String]) -> Result<Vec<Task>, UrlListError> {
    let mut tasks = Vec::new();
    let mut keys = HashSet::new();
    for (number, argument) in (1..).zip(arguments) {
        let task = match (source_url(argument), argument.split_once('=')) {
            (Some(url), _) => Task { name: format!("url{number}"), url, file_name: None },
            (None, Some((name, source))) if !name.is_empty() && !name.contains('/') => {
                named_task(name, source)?
            }
            (None, _) => return Err(UrlListError::NoSuchFile { argument: argument.clone() }),
        };
        if !keys.insert(task.name.clone()) {
            return Err(UrlListError::Twice { name: task.name });
        }
        tasks.push(task);
    }
    Ok(tasks)
}

fn named_task(name: &str, source: &str) -> Result<Task, UrlListError> {
    let no_such_file = || UrlListError::NoSuchFile { argument: source.to_owned() };
    if name.chars().any(char::is_control) {
        return Err(UrlListError::Name { name: name.to_owned() });
    }
    let url = source_url(source).ok_or_else(no_such_file)?;
    Ok(Task { name: name.to_owned(), url, file_name: Some(name.to_owned()) })
}

/// Returns the URL that an argument is, or that of the file that it names.
fn source_url(argument: &str) -> Option<String> {
    let is_url = is_http_url(argument) || local_path(argument).is_some();
    if is_url { Some(argument.to_owned()) } else { file_url(argument) }
}

fn check(name: String, url: String) -> Result<Task, UrlListError> {
    if name.chars().any(char::is_control) {
        Err(UrlListError::Name { name })
    } else if is_http_url(&url) {
        Ok(Task { name, url, file_name: None })
    } else {
        Err(UrlListError::NotAUrl { name, url })
    }
}

/// Returns the lines of an error that quotes the list, as they may be printed.
fn shown_lines(error: &toml::de::Error) -> String {
    let lines: Vec<_> = error.to_string().lines().map(shown_url).collect();
    lines.join("\n")
}

/// What the argument is, if it is here and no file, or the question whether a URL's scheme is
/// missing, if it looks like a host with a path.
fn scheme_hint(argument: &str) -> String {
    match std::fs::metadata(argument) {
        Ok(found) if found.is_dir() => return ": it is a folder".to_owned(),
        Ok(_) => return ": it is no regular file".to_owned(),
        Err(_) => {}
    }
    let host = argument.split(['/', ':']).next().unwrap_or_default();
    let is_host = host.contains('.') && !host.starts_with('.') && !host.ends_with('.');
    if is_host && !argument.contains("://") {
        format!(": did you mean https://{}?", shown_url(argument))
    } else {
        String::new()
    }
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Returns the URL of the file at `path`, or `None` if there is no file.
fn file_url(path: &str) -> Option<String> {
    let path = std::path::absolute(path).ok().filter(|path| path.is_file())?;
    Url::from_file_path(path).ok().map(String::from)
}

const FILE: &str = "file:";

/// Returns the local path of a `file:` URL.
#[must_use]
pub fn local_path(url: &str) -> Option<PathBuf> {
    // The scheme is checked first: other URLs need no parsing here.
    let scheme = url.trim_start().get(..FILE.len())?;
    let url = scheme.eq_ignore_ascii_case(FILE).then(|| Url::parse(url).ok())??;
    let path = url.to_file_path().ok()?;
    // The library takes a name such as `a:` for the letter of a drive, and adds a slash.
    let bytes = path.as_os_str().as_bytes();
    let has_slash = bytes.len() > 1 && bytes.ends_with(b"/") && !url.path().ends_with('/');
    let bytes = if has_slash { &bytes[..bytes.len() - 1] } else { bytes };
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_keys_in_the_seeds_order() {
        let names: Vec<_> = built_in().into_iter().map(|task| task.name).collect();
        assert_eq!(names, ["its", "detik", "file2", "file3"]);
    }

    #[test]
    fn a_table_keeps_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("urls.toml");
        std::fs::write(&path, "zeta = \"http://a/1\"\nalpha = \"http://a/2\"\n").unwrap();
        let names: Vec<_> = read(&path).unwrap().into_iter().map(|task| task.name).collect();
        assert_eq!(names, ["zeta", "alpha"]);
        std::fs::write(&path, "a = 3\n").unwrap();
        assert!(matches!(read(&path), Err(UrlListError::NotAUrl { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(read(&path), Err(UrlListError::Empty { .. })));
    }

    #[test]
    fn only_http_and_files_are_taken() {
        assert!(from_arguments(&["ftp://a/b".to_owned()]).is_err());
        assert!(from_arguments(&["nonsense".to_owned()]).is_err());
        assert!(from_arguments(&["file://elsewhere/a".to_owned()]).is_err());
        assert_eq!(from_arguments(&["http://a/b".to_owned()]).unwrap()[0].name, "url1");
    }

    #[test]
    fn a_name_can_be_given_on_the_command_line() {
        let tasks = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
            from_arguments(&arguments)
        };
        let found = tasks(&["data.csv=https://a/b?x=1", "https://a/b?x=1"]).unwrap();
        assert_eq!(
            (found[0].name.as_str(), found[0].url.as_str()),
            ("data.csv", "https://a/b?x=1")
        );
        assert_eq!(found[0].file_name.as_deref(), Some("data.csv"));
        assert_eq!((found[1].name.as_str(), &found[1].file_name), ("url2", &None));
        let error = tasks(&["a=https://a/b", "a=https://a/c"]).unwrap_err();
        assert!(matches!(error, UrlListError::Twice { .. }), "{error}");
        let error = tasks(&["a=www.its.ac.id/x"]).unwrap_err();
        assert!(error.to_string().contains("mean https://www.its.ac.id/x?"), "{error}");
        assert!(matches!(tasks(&["a\n=https://a/b"]), Err(UrlListError::Name { .. })));
        assert!(tasks(&["=https://a/b"]).is_err() && tasks(&["a/b=https://a/b"]).is_err());
        // A file whose name holds the sign is itself.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a=b");
        std::fs::write(&path, "").unwrap();
        assert_eq!(tasks(&[path.to_str().unwrap()]).unwrap()[0].file_name, None);
    }

    #[test]
    fn a_file_here_is_named_by_its_path_or_its_url() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("50 % done?.img");
        let argument = path.to_str().unwrap().to_owned();
        let error = from_arguments(std::slice::from_ref(&argument)).unwrap_err();
        assert!(error.to_string().contains("done?.img"), "{error}");
        std::fs::write(&path, "").unwrap();
        let tasks = from_arguments(std::slice::from_ref(&argument)).unwrap();
        assert_eq!(local_path(&tasks[0].url), Some(path));
        assert_eq!(from_arguments(&[tasks[0].url.clone()]).unwrap(), tasks);
        assert_eq!(local_path("http://a/b"), None);
        let folder = dir.path().to_str().unwrap().to_owned();
        assert!(from_arguments(&[folder]).unwrap_err().to_string().contains("a folder"));
        for name in ["c:", "foo:", "C|"] {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            let task = &from_arguments(&[path.to_str().unwrap().to_owned()]).unwrap()[0];
            assert_eq!(local_path(&task.url), Some(path));
        }
    }

    #[test]
    fn a_name_that_no_line_or_thread_can_bear_is_refused() {
        for name in [r"a\u0000b", r"a\nb", r"\u001b[2J"] {
            let list = format!("\"{name}\" = \"https://a/b\"");
            let error = parse(Path::new("list"), &list).unwrap_err();
            assert!(matches!(error, UrlListError::Name { .. }), "{error}");
        }
    }

    #[test]
    fn errors_show_no_password_and_nothing_that_a_terminal_obeys() {
        let list = |text: &str| parse(Path::new("list"), text).unwrap_err().to_string();
        let argument = |text: &str| from_arguments(&[text.to_owned()]).unwrap_err().to_string();
        for error in [
            list(r#""\u202ea" = "ftp://user:secret@a/\u001b[2J""#),
            list("a = \"http://user:secret@a/\u{1b}[2J"),
            argument("ftp://user:secret@a/\u{202e}"),
            argument("user:secret@example.org/\u{1b}b"),
            argument("a=user:secret@example.org/\u{1b}b"),
        ] {
            let is_obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!error.contains("secret") && !error.contains(is_obeyed), "{error:?}");
            assert!(error.contains("user:***@"), "{error:?}");
        }
    }

    #[test]
    fn a_list_gives_nothing_away_that_is_here() {
        for list in ["a = \"file:///etc/passwd\"", "a = \"/etc/passwd\""] {
            let result = parse(Path::new("list"), list);
            assert!(matches!(result, Err(UrlListError::NotAUrl { .. })), "{list}");
        }
    }
}
