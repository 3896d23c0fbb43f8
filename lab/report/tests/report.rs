//! Tests of the reports of a real run, in both languages. Poppler and Chromium, which did not
//! make the PDF and the page, read them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use grade::grade;
use libtest_mimic::{Arguments, Trial};
use stage::manifest::Manifest;
use stage::programs::STYLES;
use stage::trial::{RUN, make_run};

fn main() {
    let arguments = Arguments::from_args();
    let home = tempfile::tempdir().unwrap();
    if !arguments.list && !make_run(home.path(), 2).unwrap() {
        return;
    }
    let poppler = has("pdftotext", "-v") && has("pdftoppm", "-v");
    let trials = vec![
        trial("indonesian", || check_language("id")).with_ignored_flag(!poppler),
        trial("english", || check_language("en")).with_ignored_flag(!poppler),
        trial("equal_input_gives_equal_bytes", equal_bytes),
        trial("a_custom_template_and_its_errors", own_template),
        trial("missing_files_are_reported", missing),
        trial("the_page_is_self_contained_and_shows_tips", page)
            .with_ignored_flag(!has(CHROMIUM, "--version")),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors.
    drop(home);
    conclusion.exit();
}

const CHROMIUM: &str = "chromium";

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn has(program: &str, argument: &str) -> bool {
    Command::new(program).arg(argument).output().is_ok()
}

/// A copy of the run that a test may change.
fn run_copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut command = Command::new("cp");
    let status = command.arg("-a").arg(RUN.get().unwrap().join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
}

fn report(run: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.arg("--out").arg(run).args(arguments).output().unwrap()
}

fn made(run: &Path, arguments: &[&str]) {
    let output = report(run, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn check_language(language: &str) {
    let dir = run_copy();
    let shot = dir.path().join("shot.png");
    fs::copy(server_picture(dir.path()), &shot).unwrap();
    let shot = shot.to_str().unwrap();
    made(
        dir.path(),
        &[
            "--lang",
            language,
            "--author",
            "Siti Nurhaliza",
            "--student-id",
            "05111840000108",
            "--course",
            "Pemrograman Jaringan",
            "--screenshot",
            shot,
        ],
    );
    let pdf = dir.path().join("report.pdf");
    let text = Command::new("pdftotext").arg("-layout").arg(&pdf).arg("-").output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let sections = match language {
        "id" => [
            "a. Deskripsi kasus",
            "b. Arsitektur jaringan",
            "c. Program yang dibuat",
            "d. Hasil output",
        ],
        _ => ["a. The case", "b. The network", "c. The programs", "d. The output"],
    };
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    let manifest = Manifest::read(dir.path()).unwrap();
    let mut wanted: Vec<String> = sections.map(str::to_owned).into();
    wanted.extend(["Siti Nurhaliza", "05111840000108", "Pemrograman Jaringan"].map(str::to_owned));
    wanted.extend(manifest.nodes.iter().map(|node| format!("{}", node.address)));
    wanted.extend(
        ["fn download_and_broadcast_all", "Waktu TOTAL yang dibutuhkan"].map(str::to_owned),
    );
    wanted.extend(STYLES.map(|style| style.to_string()));
    wanted.extend(manifest.files.iter().map(|file| file.name.clone()));
    for wanted in &wanted {
        assert!(text.contains(wanted), "the PDF lacks {wanted}:\n{text}");
        assert!(
            page.contains(wanted.as_str()) || wanted.starts_with("fn "),
            "the page lacks {wanted}"
        );
    }
    // The PDF breaks a hash into two lines of 32 digits.
    for file in &manifest.files {
        assert!(text.contains(&file.blake3[..32]) && page.contains(&file.blake3), "{}", file.name);
    }
    let verdict = grade(dir.path()).verdicts.into_iter().find(|it| it.item.to_string() == "report");
    let verdict = verdict.unwrap();
    assert!(verdict.passed, "{}", verdict.reason);
    assert!(grade(dir.path()).is_complete());
    no_page_is_blank(&pdf, dir.path());
}

fn server_picture(run: &Path) -> PathBuf {
    run.join("mp/alpine-2/files/logo-its-1.png")
}

/// Checks that no page is blank and that no page has text in its margins.
fn no_page_is_blank(pdf: &Path, dir: &Path) {
    let prefix = dir.join("page");
    let mut command = Command::new("pdftoppm");
    let status = command.args(["-r", "40", "-gray"]).arg(pdf).arg(&prefix).status().unwrap();
    assert!(status.success());
    let mut pages = 0;
    for entry in fs::read_dir(dir).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pgm") {
            continue;
        }
        let (width, pixels) = grey_pixels(&fs::read(&path).unwrap());
        let dark = |pixel: &u8| *pixel < 160;
        let ink = pixels.iter().filter(|pixel| dark(pixel)).count();
        assert!(ink * 500 > pixels.len(), "{} is as good as blank", path.display());
        let edge = width / 40;
        for row in pixels.chunks(width) {
            let margins = row[..edge].iter().chain(&row[width - edge..]);
            assert_eq!(margins.filter(|pixel| dark(pixel)).count(), 0, "{}", path.display());
        }
        pages += 1;
    }
    assert!(pages > 10, "{pages} pages");
}

/// Width in pixels and grey values of a binary PGM file, see pgm(5).
fn grey_pixels(file: &[u8]) -> (usize, Vec<u8>) {
    let mut at = 0;
    let mut fields = Vec::new();
    while fields.len() < 4 {
        let len = file[at..].iter().position(u8::is_ascii_whitespace).unwrap();
        fields.push(String::from_utf8_lossy(&file[at..at + len]).into_owned());
        at += len + 1;
    }
    assert_eq!((fields[0].as_str(), fields[3].as_str()), ("P5", "255"));
    (fields[1].parse().unwrap(), file[at..].to_vec())
}

fn equal_bytes() {
    let dir = run_copy();
    let read =
        || ["report.pdf", "report.html"].map(|name| fs::read(dir.path().join(name)).unwrap());
    made(dir.path(), &[]);
    let first = read();
    made(dir.path(), &[]);
    assert!(first == read(), "two reports of one run differ");
}

fn own_template() {
    let dir = run_copy();
    let template = dir.path().join("mine.typ");
    fs::write(&template, "#let c = json(\"content.json\")\n= a. kasus\n#c.machine").unwrap();
    let path = template.to_str().unwrap();
    made(dir.path(), &["--template", path]);
    let before = fs::read(dir.path().join("report.pdf")).unwrap();
    fs::write(&template, "fine\n\n#nonsense()").unwrap();
    let output = report(dir.path(), &["--template", path]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("line 3") && error.contains("nonsense"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(before == fs::read(dir.path().join("report.pdf")).unwrap(), "the old report is gone");
}

fn missing() {
    let empty = tempfile::tempdir().unwrap();
    let output = report(empty.path(), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("run.json") && error.contains("cargo lab"), "{error}");
    assert_eq!(output.status.code(), Some(1));
    let dir = run_copy();
    let list = dir.path().join("urls.toml");
    let output = report(dir.path(), &["--screenshot", list.to_str().unwrap()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("urls.toml: not a PNG"), "{error}");
    assert!(!dir.path().join("report.pdf").exists());
}

/// A script that moves the pointer to the first bar of a timeline, and then writes the tip's
/// text and the numbers of broken images and loaded files into the page.
const PROBE: &str = "<script>addEventListener('load', async () => {
  await Promise.all([...document.images].map(image => image.decode().catch(() => 0)));
  const bar = document.querySelector('.bar');
  bar.scrollIntoView({block: 'center'});
  const box = bar.getBoundingClientRect();
  const x = box.x + box.width / 2, y = box.y + box.height / 2;
  const hit = document.elementFromPoint(x, y);
  hit.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: x, clientY: y}));
  const tip = document.getElementById('tip');
  const broken = [...document.images].filter(image => !image.naturalWidth).length;
  const loaded = performance.getEntriesByType('resource').filter(it => !it.name.startsWith('data:'));
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.body.innerHTML = `PROBE ${getComputedStyle(tip).display} | ${tip.textContent} | `
    + `images ${document.images.length} broken ${broken} loaded ${loaded.length} wide ${wide} END`;
});</script>";

fn page() {
    let dir = run_copy();
    made(dir.path(), &["--lang", "en"]);
    let page = fs::read_to_string(dir.path().join("report.html")).unwrap();
    let probed = dir.path().join("probed.html");
    fs::write(&probed, page.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    for width in ["1280,900", "390,844"] {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(CHROMIUM)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=20000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width}"))
            .arg("--dump-dom")
            .arg(format!("file://{}", probed.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, told) = dom.split_once("<body>PROBE ").expect(&dom);
        let (told, _) = told.split_once(" END").unwrap();
        assert!(told.starts_with("block | its: queueing "), "{told}");
        assert!(told.contains("broken 0 loaded 0 wide false"), "{told}");
        assert!(!told.contains("images 0"), "{told}");
    }
}
