//! The URL list: what is downloaded, under which keys, in which order.

use std::path::{Path, PathBuf};

/// One task: a key and the URL to download.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Task {
    /// Its key in the list.
    pub name: String,
    /// HTTP or HTTPS.
    pub url: String,
}

/// The seed's list (`library.py`, lines 10 to 17).
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

/// A URL list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UrlListError {
    /// The file cannot be read.
    #[error("URL list {path}: {error}")]
    Read {
        /// The list.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not a table of strings.
    #[error("URL list {path}: expected lines like name = \"https://…\": {error}")]
    Parse {
        /// The list.
        path: PathBuf,
        /// Why.
        error: Box<toml::de::Error>,
    },
    /// An entry is not a URL that can be downloaded.
    #[error("{name}: {url:?} is not an http:// or https:// URL")]
    NotAUrl {
        /// The entry's key.
        name: String,
        /// Its value.
        url: String,
    },
    /// There is nothing to do.
    #[error("URL list {path} is empty")]
    Empty {
        /// The list.
        path: PathBuf,
    },
}

/// The seed's four files.
#[must_use]
pub fn built_in() -> Vec<Task> {
    BUILT_IN.map(|(name, url)| Task { name: name.to_owned(), url: url.to_owned() }).into()
}

/// Reads a TOML table `name = "url"`, in its order.
///
/// # Errors
/// The file cannot be read, is no such table, is empty, or holds something else than URLs.
pub fn read(path: &Path) -> Result<Vec<Task>, UrlListError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| UrlListError::Read { path: path.to_owned(), error })?;
    parse(path, &text)
}

/// Takes the text of the list at `path`.
///
/// # Errors
/// As [`read`], but for the reading.
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

/// The URLs of a command line, with the keys `url1`, `url2`, ….
///
/// # Errors
/// One of them is not a URL.
pub fn from_arguments(urls: &[String]) -> Result<Vec<Task>, UrlListError> {
    (1..).zip(urls).map(|(number, url)| check(format!("url{number}"), url.clone())).collect()
}

fn check(name: String, url: String) -> Result<Task, UrlListError> {
    match url::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            Ok(Task { name, url })
        }
        _ => Err(UrlListError::NotAUrl { name, url }),
    }
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
    fn only_http_is_taken() {
        assert!(from_arguments(&["ftp://a/b".to_owned()]).is_err());
        assert!(from_arguments(&["nonsense".to_owned()]).is_err());
        assert_eq!(from_arguments(&["http://a/b".to_owned()]).unwrap()[0].name, "url1");
    }
}
