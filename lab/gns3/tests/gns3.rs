//! Tests of the lab on real GNS3 servers, 3.0 and 2.2, in a separate network.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gns3::api::{LinkEnd, Project, Server};
use gns3::deploy::is_met;
use gns3::topology::{Kind, PROJECT, Topology};
use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stage::namespace::become_lab_root;
use stage::programs::Programs;
use stage::target::NodeTarget;
use tempfile::TempDir;

const IMAGE: &str = "tiny.qcow2";
const PROGRAM: &str = env!("CARGO_BIN_EXE_gns3");

fn main() {
    let arguments = Arguments::from_args();
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/gns3");
    let mut missing = None;
    if !servers.join("complete").exists() {
        missing =
            Some("no GNS3 in target/gns3: `.ci/gns3-servers target/gns3` puts it there".into());
    }
    if !arguments.list && missing.is_none() {
        // The programs are built here, so that the processes of the tests need not build them.
        Programs::build_for_nodes(&NodeTarget::native().unwrap()).unwrap();
        // A user namespace can be entered only before any thread is started.
        match become_lab_root() {
            Ok(()) => {
                let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
                assert!(up.unwrap().success());
            }
            Err(error) => missing = Some(format!("no network namespaces here: {error}")),
        }
    }
    if let Some(reason) = &missing {
        println!("tests on GNS3 are skipped: {reason}");
    }
    let mut trials = Vec::new();
    for release in ["3.0.6", "2.2.61"] {
        for (name, test) in [
            ("an_exported_project_is_imported_as_planned", imported as fn(&Gns3)),
            ("a_lab_is_deployed_repaired_and_destroyed", deployed),
            ("errors_are_one_line", failures),
        ] {
            let servers = servers.clone();
            let test = move || {
                test(&Gns3::start(&servers, release));
                Ok(())
            };
            let trial = Trial::test(format!("{name}_{release}"), test);
            trials.push(trial.with_ignored_flag(missing.is_some()));
        }
    }
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit();
}

/// A GNS3 server with a temporary home folder.
struct Gns3 {
    process: Child,
    address: String,
    home: TempDir,
}

impl Gns3 {
    fn start(servers: &Path, release: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = home.path().display();
        for part in ["conf", "projects", "images/QEMU", "tmp"] {
            fs::create_dir_all(home.path().join(part)).unwrap();
        }
        let is_new = release.starts_with('3');
        let only_new = match is_new {
            true => format!(
                "secrets_dir = {dir}/conf\ninstall_builtin_appliances = False\n\
                 compute_username = gns3\ncompute_password = gns3\n\
                 [Controller]\ndefault_admin_username = admin\ndefault_admin_password = admin\n"
            ),
            false => "auth = True\nuser = admin\npassword = admin\n".to_owned(),
        };
        let parts = ["projects", "images", "appliances", "symbols", "configs", "resources"];
        let paths: String = parts.map(|part| format!("{part}_path = {dir}/{part}\n")).concat();
        // The NAT node usually needs libvirt's bridge; the tests need only an existing interface.
        let config = format!(
            "[Server]\nhost = 127.0.0.1\nport = {port}\nreport_errors = False\n{paths}\
             default_nat_interface = lo\n{only_new}\
             [Qemu]\nenable_hardware_acceleration = False\nrequire_hardware_acceleration = False\n"
        );
        let path = home.path().join("conf/gns3_server.conf");
        fs::write(&path, config).unwrap();
        let image = home.path().join("images/QEMU").join(IMAGE);
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(&image)
            .arg("16M")
            .status();
        assert!(made.unwrap().success());
        let search = std::env::var("PATH").unwrap();
        let log = if is_new { "--logfile" } else { "--log" };
        let process = Command::new(servers.join(format!("venv-{release}/bin/gns3server")))
            .env_clear()
            .env(
                "PATH",
                format!("{}:{search}", servers.canonicalize().unwrap().join("bin").display()),
            )
            .env("HOME", home.path())
            .env("TMPDIR", home.path().join("tmp"))
            .env("LANG", "C.UTF-8")
            .current_dir(home.path())
            .arg("--config")
            .arg(&path)
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), log])
            .arg(home.path().join("server.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gns3 = Self { process, address: format!("http://127.0.0.1:{port}"), home };
        let limit = Instant::now() + Duration::from_secs(60);
        while Server::connect(&gns3.address, "admin", "admin").is_err() {
            assert!(Instant::now() < limit, "GNS3 {release} does not answer: {}", gns3.log());
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(gns3.server().release, release);
        gns3
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("server.log")).unwrap_or_default()
    }

    fn server(&self) -> Server {
        Server::connect(&self.address, "admin", "admin").unwrap()
    }

    fn project(&self) -> Project {
        self.server().find_project(PROJECT).unwrap().unwrap()
    }

    /// Runs `cargo lab gns3 TASK`.
    fn lab(&self, task: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args([task, "--server", &self.address]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The standard output of a task that must succeed.
    fn lab_prints(&self, task: &str, arguments: &[&str]) -> String {
        let output = self.lab(task, arguments);
        assert!(output.status.success(), "{output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one error line of a task that must fail.
    fn lab_fails(&self, task: &str, arguments: &[&str]) -> String {
        let output = self.lab(task, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{text}");
        errors[0].to_owned()
    }
}

impl Drop for Gns3 {
    fn drop(&mut self) {
        // After SIGTERM the server ends its nodes too.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let limit = Instant::now() + Duration::from_secs(15);
        while self.process.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > limit {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn topology() -> Topology {
    let programs = Programs::build_for_nodes(&NodeTarget::native().unwrap()).unwrap();
    Topology::new(Kind::Qemu, IMAGE, &programs).unwrap()
}

const QEMU: [&str; 4] = ["--nodes", "qemu", "--image", IMAGE];

/// Checks that nodes, files, links and notes on the server are as planned.
fn check(server: &Server, project: &Project, topology: &Topology) {
    let nodes = server.nodes(project).unwrap();
    assert_eq!(nodes.len(), topology.nodes.len(), "{nodes:?}");
    let node = |name: &str| nodes.iter().find(|node| node.name == name).unwrap();
    for planned in &topology.nodes {
        let there = node(&planned.name);
        assert_eq!(there.node_type, planned.node_type);
        for properties in [&planned.properties, &planned.later_properties] {
            for (name, value) in properties.as_object().unwrap() {
                let there = &there.properties[name.as_str()];
                assert!(is_met(name, value, there), "{name} of {} is {there}", planned.name);
            }
        }
        for file in &planned.files {
            let bytes = server.read_file(project, there, &file.path).unwrap();
            assert!(bytes.as_deref() == Some(&file.bytes), "{} of {}", file.path, planned.name);
        }
    }
    let mut links: Vec<Vec<LinkEnd>> =
        server.links(project).unwrap().into_iter().map(|link| link.nodes).collect();
    let mut wanted: Vec<Vec<LinkEnd>> = topology
        .links
        .iter()
        .map(|ends| {
            let end = |port: &gns3::topology::Port| LinkEnd {
                node_id: node(&port.node).node_id.clone(),
                adapter_number: 0,
                port_number: port.number,
            };
            ends.iter().map(end).collect()
        })
        .collect();
    for links in [&mut links, &mut wanted] {
        links.iter_mut().for_each(|ends| ends.sort());
        links.sort();
    }
    assert_eq!(links, wanted);
    let drawings = server.drawings(project).unwrap();
    assert_eq!(drawings.len(), topology.notes.len());
    for note in &topology.notes {
        let is_there = drawings.iter().any(|drawing| drawing.svg == note.svg);
        assert!(is_there, "{drawings:?} lack {}", note.svg);
    }
}

fn imported(gns3: &Gns3) {
    let path = gns3.home.path().join("siar-lab.gns3project");
    let mut command = Command::new(PROGRAM);
    command.args(["export", "--to"]).arg(&path).args(QEMU);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let bytes = fs::read(&path).unwrap();
    let server = gns3.server();
    let id = "0b1c2d3e-4f50-4a61-8b72-93a4b5c6d7e8";
    let project = server.import_project(id, PROJECT, &bytes).unwrap();
    server.open_project(&project).unwrap();
    let topology = topology();
    check(&server, &project, &topology);
    // The imported lab equals a deployed one, except that its nodes do not run.
    let text = gns3.lab_prints("deploy", &[&QEMU[..], &["--no-start"]].concat());
    assert!(text.contains("everything is as it should be"), "{text}");
}

fn deployed(gns3: &Gns3) {
    let text = gns3.lab_prints("deploy", &QEMU);
    for words in [
        "created project siar-lab",
        "created alpine-1",
        "uploaded siar.img to alpine-3",
        "linked alpine-2 with port 1 of switch-1",
        "started alpine-1",
        "telnet 127.0.0.1",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let (server, project, topology) = (gns3.server(), gns3.project(), topology());
    check(&server, &project, &topology);
    let alpines = |server: &Server| {
        let nodes = server.nodes(&project).unwrap();
        nodes.into_iter().filter(|node| node.node_type == "qemu").collect::<Vec<_>>()
    };
    assert!(alpines(&server).iter().all(gns3::api::NodeState::is_started));
    let text = gns3.lab_prints("deploy", &QEMU);
    assert!(text.contains("everything is as it should be"), "{text}");
    let text = gns3.lab_prints("status", &QEMU);
    assert!(text.contains("alpine-2  started, console: telnet"), "{text}");

    // A damaged file is replaced, and nothing else is changed.
    let second = &alpines(&server)[1];
    server.write_file(&project, second, "siar.img", b"spoilt").unwrap();
    let output = gns3.lab("status", &QEMU);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let wanted = format!("deploy would have uploaded siar.img to {}", second.name);
    assert!(text.contains(&wanted), "{text}");
    let text = gns3.lab_prints("deploy", &QEMU);
    assert!(text.contains(&format!("uploaded siar.img to {}", second.name)), "{text}");
    // The running node had to be stopped for the change.
    assert!(text.contains(&format!("stopped {}\n", second.name)), "{text}");
    assert!(text.contains("\n3 changes\n"), "{text}");
    check(&server, &project, &topology);

    let error = gns3.lab_fails("deploy", &["--nodes", "docker"]);
    assert!(error.contains("alpine-1 is a qemu node, not a docker one"), "{error}");

    let text = gns3.lab_prints("destroy", &[]);
    assert!(text.contains("removed project siar-lab"), "{text}");
    assert!(server.find_project(PROJECT).unwrap().is_none());
    assert_eq!(fs::read_dir(gns3.home.path().join("projects")).unwrap().count(), 0);
    let text = gns3.lab_prints("destroy", &[]);
    assert!(text.contains("there is no project siar-lab"), "{text}");
}

fn failures(gns3: &Gns3) {
    let error = gns3.lab_fails("deploy", &["--password", "wrong"]);
    assert!(error.contains("does not let admin in"), "{error}");
    let error = gns3.lab_fails("run", &["mt-async"]);
    assert!(error.contains("there is no project siar-lab"), "{error}");
    let error = gns3.lab_fails("deploy", &["--nodes", "qemu", "--image", "nosuch.qcow2"]);
    assert!(error.contains("nosuch.qcow2") && error.contains("--image"), "{error}");
    let error = gns3.lab_fails("deploy", &[]);
    assert!(error.contains("Docker") && error.contains("--nodes qemu"), "{error}");
    // The name of a node whose creation failed must be usable again.
    gns3.lab_prints("deploy", &[&QEMU[..], &["--no-start"]].concat());
    check(&gns3.server(), &gns3.project(), &topology());
    let output =
        Command::new(PROGRAM).args(["status", "--server", "http://127.0.0.1:9"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("error: no GNS3 server at http://127.0.0.1:9"), "{text}");
}
