//! Tests of bad HTTP servers and bad URL lists: they reach nothing inside, hold nobody up, show no
//! secret and replace no file.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use siar_core::event::{EventKind, Style};
use stage::network::call;
use stage::node::{CLIENT, GATEWAY, Node, SERVERS};
use stage::programs::STYLES;
use stage::samples::{Sample, noise};

use crate::lab::{Lab, assert_success, text};

/// An address of the internet, which the gateway has in these tests.
const PUBLIC: &str = "93.184.215.14";

/// Serves at `address` on a node: each request is kept, and `answer` is called with its stream.
/// Returns the requests. The threads end with the tests.
fn serve(
    lab: &Lab,
    node: Node,
    address: &str,
    answer: impl Fn(TcpStream) + Clone + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let listener = lab.network.on(node, || TcpListener::bind(address)).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&requests);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (answer, kept) = (answer.clone(), Arc::clone(&kept));
            thread::spawn(move || {
                // A request is short, so that one read gets all of it.
                let mut request = [0; 4096];
                let len = stream.read(&mut request).unwrap_or(0);
                kept.lock().unwrap().push(text(&request[..len]));
                answer(stream);
            });
        }
    });
    requests
}

/// Answers with `head` and `body`. The client may have ended the connection.
fn respond(mut stream: TcpStream, head: &str, body: &str) {
    let len = body.len();
    let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {len}\r\n\r\n{body}");
}

/// A server on the internet redirects to what only this client can reach.
pub(crate) fn redirects_inside() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let server = lab.server(SERVERS[0], &[]);
    let gateway = lab.network.namespace(GATEWAY).unwrap();
    call(gateway, "ip", &format!("addr add {PUBLIC}/32 dev eth0")).unwrap();
    let secrets = serve(&lab, CLIENT, "127.0.0.1:8081", |stream| {
        respond(stream, "200 OK", "a secret");
    });
    let inside = format!("http://{}:82/", GATEWAY.address);
    let internal = serve(&lab, GATEWAY, &format!("{}:82", GATEWAY.address), |stream| {
        respond(stream, "200 OK", "a secret");
    });
    let targets =
        ["http://127.0.0.1:8081/", "http://localhost:8081/", "http://0.0.0.0:8081/", &inside];
    for (port, target) in (9001..).zip(targets) {
        let address = format!("{PUBLIC}:{port}");
        let head = format!("302 Found\r\nLocation: {target}");
        serve(&lab, GATEWAY, &address, move |stream| respond(stream, &head, ""));
        let url = format!("http://{address}/moved.bin");
        let client = |more: &[&str]| -> Output {
            lab.client(Style::MpAsync, &[&["--servers", "1", &url][..], more].concat())
        };
        let output = client(&[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let says = format!("error: url1: {url}: redirects to http://");
        assert!(stderr.contains(&says), "{stderr}");
        assert!(stderr.contains("is not a public one: not followed"), "{stderr}");
        assert_eq!(secrets.lock().unwrap().len() + internal.lock().unwrap().len(), 0);
        assert_eq!(fs::read_dir(server.files()).unwrap().count(), 0);

        if target.contains("localhost") {
            // Its first address may be an IPv6 one, where nobody listens.
            continue;
        }
        // Who wants that can have it.
        assert_success(&client(&["--allow-redirects", "any"]));
        assert_eq!(fs::read(server.files().join("moved.bin")).unwrap(), b"a secret");
        fs::remove_file(server.files().join("moved.bin")).unwrap();
        secrets.lock().unwrap().clear();
        internal.lock().unwrap().clear();
    }

    // A redirection that begins inside may stay there.
    let head = format!("302 Found\r\nLocation: {inside}");
    let address = format!("{}:83", GATEWAY.address);
    serve(&lab, GATEWAY, &address, move |stream| respond(stream, &head, ""));
    let url = format!("http://{address}/moved.bin");
    assert_success(&lab.client(Style::Mt, &["--servers", "1", &url]));
}

/// A server that sends a byte now and then makes progress, but is too slow.
pub(crate) fn trickles() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let server = lab.server(SERVERS[0], &[]);
    let address = format!("{}:81", GATEWAY.address);
    serve(&lab, GATEWAY, &address, |mut stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
        let _ = stream.write_all(head);
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    });
    let (slow, good) = (format!("http://{address}/slow.bin"), lab.samples[0].path);
    let good = format!("{}{good}", lab.gateway.origin());
    for style in STYLES {
        let begin = Instant::now();
        let output = lab.client(style, &["--servers", "1", "--speed-time", "2s", &slow, &good]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let says = format!("error: url1: {slow}: given up: ");
        assert!(stderr.contains(&says) && stderr.contains("--speed-limit"), "{stderr}");
        assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        lab.assert_delivered(&server);
    }
}

/// The password of a URL reaches its server, and neither terminal nor record; what a terminal would
/// obey is escaped.
pub(crate) fn password_in_url() {
    let lab = Lab::new(vec![noise("small.bin", 1000)]);
    let _server = lab.server(SERVERS[0], &[]);
    let address = format!("{}:81", GATEWAY.address);
    let requests = serve(&lab, GATEWAY, &address, |stream| respond(stream, "200 OK", "hello"));
    let list = format!(
        "good = \"http://user:secret@{address}/good.bin\"\n\
         bad = \"http://user:secret@{}/missing\\u001b[2J\\u202e\"\n\
         dark = \"http://{address}/dark\\u001b[2J\\u202e\"\n",
        GATEWAY.address
    );
    fs::write(lab.path("urls.toml"), list).unwrap();
    for style in STYLES {
        let output = lab.client(style, &["--servers", "1", "-vv"]);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let events = fs::read_to_string(lab.path("client.events")).unwrap();
        for shown in [&stdout, &stderr, &events] {
            assert!(!shown.contains("secret"), "{shown}");
            assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
        }
        let good = format!("mendownload http://user:***@{address}/good.bin\n");
        let dark = format!("mendownload http://{address}/dark\\u{{1b}}[2J\\u{{202e}}\n");
        assert!(stdout.contains(&good) && stdout.contains(&dark), "{stdout}");
        let bad = format!("error: bad: http://user:***@{}/missing", GATEWAY.address);
        assert!(stderr.contains(&bad), "{stderr}");
    }
    let requests = requests.lock().unwrap();
    // The Base64 of `user:secret`.
    let is_sent = |request: &&String| request.contains("dXNlcjpzZWNyZXQ=");
    assert_eq!(requests.iter().filter(is_sent).count(), STYLES.len());
}

/// A file that is there keeps its name and its bytes, whatever is downloaded.
pub(crate) fn names_that_are_taken() {
    let one = Sample { path: "/x/logo.png", ..noise("one.png", 30_000) };
    let two = Sample { path: "/y/logo.png", ..noise("two.png", 40_000) };
    let lab = Lab::new(vec![one, two]);
    let server = lab.server(SERVERS[0], &[]);
    let mine = lab.path("downloads/logo.png");
    fs::write(&mine, "mine").unwrap();
    let size = |name: &str| fs::metadata(lab.path("downloads").join(name)).unwrap().len();
    for style in STYLES {
        let output = lab.client(style, &["--servers", "1"]);
        assert_success(&output);
        assert_eq!(fs::read(&mine).unwrap(), b"mine", "{style}");
        let mut sizes = ["logo-1.png", "logo-2.png"].map(size);
        sizes.sort_unstable();
        assert_eq!(sizes, [30_000, 40_000], "{style}");
        assert_eq!(fs::read_dir(lab.path("downloads")).unwrap().count(), 3, "{style}");
        let mut names: Vec<String> = lab
            .client_events()
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::BroadcastStarted { name, .. } => Some(name),
                _ => None,
            })
            .collect();
        names.sort();
        assert_eq!(names, ["logo-1.png", "logo-2.png"], "{style}");
        for name in &names {
            let said = format!("broadcast file {name}\n");
            assert!(text(&output.stdout).contains(&said), "{style}");
            assert_eq!(fs::metadata(server.files().join(name)).unwrap().len(), size(name));
        }
    }
}
