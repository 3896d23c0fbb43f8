//! Tests of the grade of a real run, and of copies that were tampered with.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use evidence::judge::Item;
use grade::{Grade, grade, lines, table, write_csv};
use libtest_mimic::{Arguments, Failed, Trial};
use siar_core::event::Style;
use stage::manifest::{Manifest, NodeDir};
use stage::node::{CLIENT, SERVERS};
use stage::trial::{RUN, make_run};
use tempfile::TempDir;

fn main() {
    let arguments = Arguments::from_args();
    let home = tempfile::tempdir().unwrap();
    if !arguments.list && !make_run(home.path(), 1).unwrap() {
        return;
    }
    let style = Item::Style;
    let trials = vec![
        trial("an_honest_run_passes", honest_run),
        trial("several_folders_make_a_table", several_folders),
        trial("a_run_that_was_broken_off_is_said_once", broken_off),
        tampered("a_missing_file", Item::Delivery, "alpine-2: file_example", |dir| {
            fs::remove_file(server_file(dir, Style::Mt, 0)).unwrap();
        }),
        tampered(
            "one_flipped_byte",
            Item::Delivery,
            "at alpine-3 differs from its source",
            |dir| {
                let path = server_file(dir, Style::MpAsync, 1);
                let mut bytes = fs::read(&path).unwrap();
                bytes[1000] ^= 1;
                fs::write(path, bytes).unwrap();
            },
        ),
        tampered(
            "another_source",
            Item::Delivery,
            "at the client is not the file of the list",
            |dir| {
                let name = Manifest::read(dir).unwrap().files[0].name.clone();
                fs::write(client(dir, Style::Mp).files().join(name), "something else").unwrap();
            },
        ),
        tampered(
            "files_copied_without_being_received",
            Item::Delivery,
            "never told that it received it",
            |dir| {
                edit_lines(&server(dir, Style::Mt, 1).server_events(), |line| {
                    (!line.contains("\"received\"")).then(|| line.to_owned())
                });
            },
        ),
        tampered("one_pid_for_all", style(Style::Mp), "all tasks ran in one process", |dir| {
            edit_events(&client(dir, Style::Mp).client_events(), |event| {
                let pid = event["pid"].clone();
                if event.get("task").is_some() && event["event"] != "task_queued" {
                    event["pid"] = 4242.into();
                    event["tid"] = 4242.into();
                }
                assert!(pid.is_u64());
            });
        }),
        tampered(
            "threads_said_to_be_processes",
            style(Style::Mp),
            "the lab never saw process",
            |dir| {
                // The events of mt's client are presented as mp's, with invented process ids.
                let (from, to) = (client(dir, Style::Mt), client(dir, Style::Mp));
                fs::copy(from.processes(), to.processes()).unwrap();
                fs::copy(from.client_events(), to.client_events()).unwrap();
                edit_events(&to.client_events(), |event| {
                    event["style"] = "mp".into();
                    if event.get("task").is_some() && event["event"] != "task_queued" {
                        event["pid"] = event["tid"].clone();
                    }
                });
            },
        ),
        tampered("sequential_tasks", style(Style::Mt), "ran alone", |dir| {
            shift_tasks(dir, Style::Mt)
        }),
        tampered("sequential_tasks_of_a_pool", style(Style::MtAsync), "ran alone", |dir| {
            shift_tasks(dir, Style::MtAsync);
        }),
        tampered("all_in_the_main_thread", style(Style::MtAsync), "main thread", |dir| {
            edit_events(&client(dir, Style::MtAsync).client_events(), |event| {
                event["tid"] = event["pid"].clone();
            });
        }),
        tampered(
            "results_in_another_order",
            style(Style::MpAsync),
            "not in the list's order",
            |dir| {
                edit_lines(&client(dir, Style::MpAsync).client_log(), |line| {
                    Some(line.replacen("'its'", "'xxx'", 1).replacen("'detik'", "'its'", 1))
                });
            },
        ),
        tampered("a_task_left_out", style(Style::MpAsync), "its tasks are", |dir| {
            edit_lines(&client(dir, Style::MpAsync).client_events(), |line| {
                (!line.contains("\"task\":\"file3\"")).then(|| line.to_owned())
            });
        }),
        tampered("a_failure_made_a_success", style(Style::Mt), "its has no task_finished", |dir| {
            edit_lines(&client(dir, Style::Mt).client_events(), |line| {
                let is_end = line.contains("task_finished") && line.contains("\"its\"");
                (!is_end).then(|| line.to_owned())
            });
        }),
        tampered(
            "a_forged_confirmation",
            Item::Udp,
            "alpine-3: never told that it received logo-its-1.png",
            |dir| {
                // The client reports alpine-3's confirmation, but alpine-3 reports no such file.
                edit_lines(&server(dir, Style::Mp, 1).server_events(), |line| {
                    (!line.contains("logo-its-1.png")).then(|| line.to_owned())
                });
            },
        ),
        tampered("a_forged_reception", Item::Udp, "which the client never began", |dir| {
            let path = server(dir, Style::Mp, 0).server_events();
            let text = fs::read_to_string(&path).unwrap();
            let line = text.lines().find(|line| line.contains("\"received\"")).unwrap();
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["transfer"] = "00000000deadbeef".into();
            fs::write(&path, format!("{text}{event}\n")).unwrap();
        }),
        tampered("a_capture_of_another_run", Item::Udp, "0 bytes came as broadcasts", |dir| {
            fs::copy(server(dir, Style::Mt, 0).capture(), server(dir, Style::Mp, 0).capture())
                .unwrap();
        }),
        tampered("no_capture", Item::Udp, "packets.pcap", |dir| {
            fs::remove_file(server(dir, Style::MtAsync, 1).capture()).unwrap();
        }),
        tampered("a_capture_cut_short", Item::Udp, "alpine-3", |dir| {
            let path = server(dir, Style::Mt, 1).capture();
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 3]).unwrap();
        }),
        tampered("another_files_list", Item::Udp, "was not broadcast", |dir| {
            let mut manifest = Manifest::read(dir).unwrap();
            manifest.files[0].blake3 = "0".repeat(64);
            manifest.write(dir).unwrap();
        }),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors.
    drop(home);
    conclusion.exit();
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn broken_off() {
    let copy = copy_of_the_run();
    let mut manifest = Manifest::read(copy.path()).unwrap();
    manifest.is_finished = false;
    manifest.write(copy.path()).unwrap();
    let text = lines(&grade(copy.path()));
    assert_eq!(text.matches("this run was broken off").count(), 1, "{text}");
}

/// A test that a copy of the run fails `item` after `tamper`, and that the verdict's reason
/// contains `reason`.
fn tampered(name: &str, item: Item, reason: &'static str, tamper: fn(&Path)) -> Trial {
    Trial::test(name, move || {
        let copy = copy_of_the_run();
        tamper(copy.path());
        let grade = grade(copy.path());
        let verdict = grade.verdicts.iter().find(|verdict| verdict.item == item).unwrap();
        if verdict.passed {
            return Err(Failed::from(format!("{item} passed: {}", verdict.reason)));
        }
        if !verdict.reason.to_string().contains(reason) {
            return Err(Failed::from(format!("{item}: {}", verdict.reason)));
        }
        Ok(())
    })
}

fn copy_of_the_run() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut command = Command::new("cp");
    let status = command.arg("-a").arg(RUN.get().unwrap().join(".")).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
}

fn failed(grade: &Grade) -> Vec<String> {
    let failed = grade.verdicts.iter().filter(|verdict| !verdict.passed);
    failed.map(|verdict| format!("{}: {}", verdict.item, verdict.reason)).collect()
}

fn honest_run() {
    let grade = grade(RUN.get().unwrap());
    // This run has no report; the tests of the crate `report` make one.
    assert_eq!(failed(&grade), ["report: there is no report.pdf"]);
    let text = grade::lines(&grade);
    assert!(text.contains("4 child processes of process"), "{text}");
    assert!(text.contains("32 copies"), "{text}");
}

fn several_folders() {
    let empty = tempfile::tempdir().unwrap();
    let grades = [grade(RUN.get().unwrap()), grade(empty.path())];
    let text = table(&grades);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("6 of 7") && text.contains("0 of 7"), "{text}");
    let csv = empty.path().join("grades.csv");
    write_csv(&grades, &csv).unwrap();
    let mut reader = csv::Reader::from_path(csv).unwrap();
    assert_eq!(reader.headers().unwrap().len(), 16);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!((&rows[0][1], &rows[0][15], &rows[1][1]), ("pass", "6", "fail"));
}

fn client(dir: &Path, style: Style) -> NodeDir {
    NodeDir::new(dir, style, CLIENT.name)
}

fn server(dir: &Path, style: Style, index: usize) -> NodeDir {
    NodeDir::new(dir, style, SERVERS[index].name)
}

fn server_file(dir: &Path, style: Style, index: usize) -> PathBuf {
    server(dir, style, index).files().join(&Manifest::read(dir).unwrap().files[2].name)
}

fn edit_lines(path: &Path, edit: impl Fn(&str) -> Option<String>) {
    let text = fs::read_to_string(path).unwrap();
    let edited: Vec<String> = text.lines().filter_map(edit).collect();
    assert_ne!(edited, text.lines().collect::<Vec<_>>(), "nothing was tampered with");
    fs::write(path, edited.join("\n") + "\n").unwrap();
}

fn edit_events(path: &Path, edit: impl Fn(&mut serde_json::Value)) {
    edit_lines(path, |line| {
        let mut event = serde_json::from_str(line).unwrap();
        edit(&mut event);
        Some(event.to_string())
    });
}

/// Moves each task one second behind the task before it.
fn shift_tasks(dir: &Path, style: Style) {
    let keys: Vec<String> =
        Manifest::read(dir).unwrap().files.into_iter().map(|file| file.key).collect();
    edit_events(&client(dir, style).client_events(), |event| {
        let task = event.get("task").and_then(|task| task.as_str()).unwrap_or_default();
        let Some(index) = keys.iter().position(|key| key == task) else { return };
        if event["event"] == "task_queued" {
            return;
        }
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        let later = time + jiff::SignedDuration::from_secs(index as i64);
        event["time"] = later.to_string().into();
    });
}
