//! The setting of every test: a network with a gateway, sample files, servers and clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use siar_core::event::{Event, Style};
use stage::events::read_events;
use stage::gateway::Gateway;
use stage::network::Network;
use stage::node::{CLIENT, Node, SERVERS};
use stage::outcome::compare;
use stage::programs::Programs;
use stage::samples::Sample;
use stage::server::RunningServer;

pub(crate) static PROGRAMS: OnceLock<Programs> = OnceLock::new();

pub(crate) fn programs() -> &'static Programs {
    PROGRAMS.get().unwrap()
}

pub(crate) struct Lab {
    pub(crate) network: Network,
    pub(crate) gateway: Gateway,
    pub(crate) samples: Arc<Vec<Sample>>,
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new(samples: Vec<Sample>) -> Self {
        let network = Network::namespaces().unwrap();
        let samples = Arc::new(samples);
        let gateway = Gateway::start(&network, Arc::clone(&samples)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("urls.toml"), gateway.url_list(&samples)).unwrap();
        fs::create_dir(dir.path().join("downloads")).unwrap();
        Self { network, gateway, samples, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn server(&self, node: Node, arguments: &[&str]) -> RunningServer {
        let dir = self.path(node.name);
        RunningServer::start(&self.network, programs(), node, &dir, arguments).unwrap()
    }

    pub(crate) fn servers(&self) -> Vec<RunningServer> {
        SERVERS.map(|node| self.server(node, &[])).into()
    }

    pub(crate) fn lose(&self, percent: u8) {
        for node in SERVERS {
            self.network.drop_datagrams(node, percent).unwrap();
        }
    }

    /// Starts the client on its node. Unless `arguments` say otherwise, the client has the lab's
    /// URL list and no delay.
    pub(crate) fn start_client(&self, style: Style, arguments: &[&str]) -> Child {
        let mut command = Command::new(programs().client(style));
        command
            .env("SIAR_DELAY", "0s")
            .env("SIAR_DIR", self.path("downloads"))
            .env("SIAR_EVENTS", self.path("client.events"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let is_url =
            |argument: &&str| argument.starts_with("http") || argument.starts_with("file:");
        if !arguments.iter().any(is_url) {
            command.arg("--urls").arg(self.path("urls.toml"));
        }
        self.network.spawn(CLIENT, &mut command).unwrap()
    }

    pub(crate) fn client(&self, style: Style, arguments: &[&str]) -> Output {
        let child = self.start_client(style, arguments);
        let pid = Pid::from_raw(child.id().cast_signed());
        let (done, waited) = std::sync::mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if waited.recv_timeout(Duration::from_secs(120)).is_err() {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        // The watchdog may have ended after its 120 s.
        let _ = done.send(());
        watchdog.join().unwrap();
        output
    }

    /// Runs a command on a node to its end. Its standard output goes where the command says.
    pub(crate) fn run_on(&self, node: Node, command: &mut Command) -> Output {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        self.network.spawn(node, command).unwrap().wait_with_output().unwrap()
    }

    pub(crate) fn client_events(&self) -> Vec<Event> {
        read_events(&self.path("client.events")).unwrap()
    }

    pub(crate) fn assert_delivered(&self, server: &RunningServer) {
        assert_eq!(
            compare(&server.files(), &self.samples),
            Vec::<String>::new(),
            "{}",
            server.node.name
        );
        let leftovers = fs::read_dir(server.files()).unwrap().count();
        assert_eq!(leftovers, self.samples.len(), "only the files stand in the folder");
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit, "{what} did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn has_event(path: &Path, name: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"event\":\"{name}\"")))
}
