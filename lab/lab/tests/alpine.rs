//! Tests of the static programs on nodes with a real Alpine root file system: musl and busybox.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use evidence::judge::Item;
use grade::grade;
use libtest_mimic::{Arguments, Trial};
use nix::unistd::geteuid;
use siar_core::client::fetch::CERTIFICATES_VARIABLE;
use stage::internet::origin;
use stage::namespace::{become_lab_root, own_mounts};
use stage::network::Network;
use stage::node::CLIENT;
use stage::programs::Programs;
use stage::run::{RunConfig, run_all};
use stage::target::NodeTarget;

struct Made {
    network: Network,
    dir: PathBuf,
}

fn main() {
    let arguments = Arguments::from_args();
    let rootfs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/alpine");
    let missing = if !rootfs.join("etc/alpine-release").exists() {
        Some("no Alpine in target/alpine: `.ci/alpine-rootfs target/alpine` puts it there")
    } else if !geteuid().is_root() {
        Some("not root, who alone can be every user of the root file system")
    } else {
        None
    };
    if let Some(reason) = missing {
        println!("tests on Alpine are skipped: {reason}");
    }
    let home = tempfile::tempdir().unwrap();
    let mut made = None;
    if !arguments.list && missing.is_none() {
        let programs = Programs::build_for_nodes(&NodeTarget::native().unwrap()).unwrap();
        // A user namespace can be entered only before any thread is started.
        become_lab_root().unwrap();
        own_mounts().unwrap();
        let mut network = Network::namespaces().unwrap();
        let config = RunConfig {
            out: home.path().to_owned(),
            delay: Duration::from_millis(200),
            loss: 0,
            runs: 1,
            arguments: Vec::new(),
            rootfs: Some(rootfs),
        };
        run_all(&mut network, &programs, &config).unwrap();
        made = Some(Made { network, dir: home.path().to_owned() });
    }
    let made = Arc::new(made);
    let trial = |name: &str, test: fn(&Made)| {
        let made = Arc::clone(&made);
        let test = move || {
            test(made.as_ref().as_ref().unwrap());
            Ok(())
        };
        Trial::test(name, test).with_ignored_flag(missing.is_some())
    };
    let trials = vec![
        trial("all_styles_deliver_and_are_graded", graded),
        trial("the_nodes_are_alpine_without_glibc", no_glibc),
        trial("only_the_labs_authority_is_trusted_and_only_if_named", trust),
        trial("an_unknown_name_gives_one_error_line", unknown_name),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors, and the mounts must be taken down before their folder is removed.
    drop(made);
    drop(home);
    conclusion.exit();
}

fn on_client(made: &Made, program: &str, arguments: &[&str], certificates: Option<&str>) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove(CERTIFICATES_VARIABLE);
    if let Some(path) = certificates {
        command.env(CERTIFICATES_VARIABLE, path);
    }
    made.network.spawn(CLIENT, &mut command).unwrap().wait_with_output().unwrap()
}

/// The one error line of a client that cannot download `url`.
fn error_of(made: &Made, url: &str, certificates: Option<&str>) -> String {
    let arguments = ["--delay", "0s", "--dir", "/tmp", url];
    let output = on_client(made, "/usr/local/bin/mt", &arguments, certificates);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

fn graded(made: &Made) {
    let grade = grade(&made.dir);
    for verdict in &grade.verdicts {
        // This run has no report.
        assert!(verdict.passed || verdict.item == Item::Report, "{verdict:?}");
    }
}

fn no_glibc(made: &Made) {
    let look =
        "cat /etc/alpine-release; ls /lib/ld-musl-*; ls -d /lib64 /lib/ld-linux* /lib/libc.so.6";
    let output = on_client(made, "/bin/sh", &["-c", look], None);
    let text = String::from_utf8(output.stdout).unwrap();
    let release = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/alpine/etc/alpine-release"),
    );
    assert!(text.starts_with(&release.unwrap()), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    for program in ["mp", "mt", "mp-async", "mt-async", "server"] {
        let output = on_client(made, &format!("/usr/local/bin/{program}"), &["--version"], None);
        assert!(output.status.success(), "{program}: {output:?}");
    }
}

fn trust(made: &Made) {
    let url = format!("{}/logo.png", origin());
    let error = error_of(made, &url, None);
    assert!(error.contains("UnknownIssuer"), "{error}");
    let error = error_of(made, &url, Some("/etc/hosts"));
    assert!(error.contains("SSL_CERT_FILE /etc/hosts: "), "{error}");
    let error = error_of(made, &url, Some("/nowhere"));
    assert!(error.contains("SSL_CERT_FILE /nowhere: No such file"), "{error}");
}

fn unknown_name(made: &Made) {
    let error = error_of(made, "https://other.siar.test/logo.png", None);
    assert!(error.contains("other.siar.test") && error.contains("not known"), "{error}");
}
