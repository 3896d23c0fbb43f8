//! Errors of a GNS3 server, with remedies.

/// A failure of a request to a GNS3 server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No server answers.
    #[error(
        "no GNS3 server at {server}: {error}; start gns3server there, or name another with --server"
    )]
    Unreachable {
        /// The server's URL.
        server: String,
        /// The cause.
        error: Box<ureq::Error>,
    },
    /// The server is no GNS3 server of a supported version.
    #[error("{server} is no GNS3 server of 2.2 or 3.0: {answer}")]
    NotGns3 {
        /// The server's URL.
        server: String,
        /// The server's answer.
        answer: String,
    },
    /// The user name or the password is wrong.
    #[error(
        "{server} does not let {user} in: give --user and --password (GNS3 3.0 begins with admin and admin)"
    )]
    Login {
        /// The server's URL.
        server: String,
        /// The user name.
        user: String,
    },
    /// The server refuses a request.
    #[error("GNS3 refuses to {what}: {message}{}", remedy(message))]
    Refused {
        /// The request, in words.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's message.
        message: String,
    },
    /// The server's answer does not have the format of the API.
    #[error("GNS3's answer, when asked to {what}: {error}")]
    Answer {
        /// The request, in words.
        what: String,
        /// The parse error.
        error: serde_json::Error,
    },
    /// The server gave a node another name than the wanted one.
    #[error(
        "GNS3 calls {wanted} {given}: the name is taken; close the project, or give the other node another name"
    )]
    Renamed {
        /// The wanted name.
        wanted: String,
        /// The name that the server gave.
        given: String,
    },
    /// A node exists already, but is of another kind.
    #[error(
        "{node} is a {there} node, not a {wanted} one: remove the lab first with `cargo lab gns3 destroy`, or give --nodes"
    )]
    OtherKind {
        /// The node's name.
        node: String,
        /// The kind of the existing node.
        there: String,
        /// The wanted kind.
        wanted: &'static str,
    },
    /// A file was not written, although GNS3 reported success.
    #[error("GNS3 did not write {file} of {node}: may its user write into the project's folder?")]
    NotWritten {
        /// The file's path in the node's folder.
        file: String,
        /// The node's name.
        node: String,
    },
    /// Properties were not set, although GNS3 reported success.
    #[error("GNS3 did not take {names} of {node}: remove the node in GNS3, and deploy again")]
    NotTaken {
        /// The node's name.
        node: String,
        /// The names of the properties.
        names: String,
    },
    /// A node still runs, although GNS3 reported that it stopped.
    #[error(
        "GNS3 did not stop {node}: stop it by hand (Docker nodes need the docker program in the server's PATH)"
    )]
    NotStopped {
        /// The node's name.
        node: String,
    },
    /// A node is missing.
    #[error("project {project} has no node {node}: make it with `cargo lab gns3 deploy`")]
    NoNode {
        /// The project's name.
        project: String,
        /// The node's name.
        node: String,
    },
    /// The project is missing.
    #[error("there is no project {project} on {server}: make it with `cargo lab gns3 deploy`")]
    NoProject {
        /// The project's name.
        project: String,
        /// The server's URL.
        server: String,
    },
}

/// The remedy for an error message of GNS3; empty if none is known.
fn remedy(message: &str) -> &'static str {
    let known = [
        (
            "Permission denied",
            "; let the GNS3 server's user do that (for Docker: its group docker)",
        ),
        ("Dynamips", "; the switch needs dynamips on the GNS3 server: install it there"),
        (
            "virbr0",
            "; the NAT node needs libvirt's default network on the GNS3 server: install libvirt-daemon-system there, or deploy with --no-nat",
        ),
        (
            "docker.sock",
            "; Docker nodes need Docker on the GNS3 server: install it there, or deploy with --nodes qemu",
        ),
        (
            "pull",
            "; give the GNS3 server the internet, or load the image into its Docker (docker load)",
        ),
        (
            "image",
            "; put the disk image into the GNS3 server's images folder, or name another with --image",
        ),
        ("QEMU binary", "; install qemu-system-x86 on the GNS3 server"),
        ("uBridge", "; install ubridge on the GNS3 server, and let its user run it"),
        ("busybox", "; install busybox-static on the GNS3 server"),
    ];
    known.iter().find(|(words, _)| message.contains(words)).map_or("", |(_, remedy)| remedy)
}
