//! What a GNS3 server refuses, and what helps.

/// A GNS3 server does not do what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Gns3Error {
    /// Nobody answers.
    #[error(
        "no GNS3 server at {server}: {error}; start gns3server there, or name another with --server"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        error: Box<ureq::Error>,
    },
    /// Something else answers.
    #[error("{server} is no GNS3 server of 2.2 or 3.0: {answer}")]
    NotGns3 {
        /// Its address.
        server: String,
        /// What it said.
        answer: String,
    },
    /// The password is not right.
    #[error(
        "{server} does not let {user} in: give --user and --password (GNS3 3.0 begins with admin and admin)"
    )]
    Login {
        /// Its address.
        server: String,
        /// Who.
        user: String,
    },
    /// It refuses.
    #[error("GNS3 refuses to {what}: {message}{}", remedy(message))]
    Refused {
        /// What was to be done.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// It gave something that is not of its API.
    #[error("GNS3's answer, when asked to {what}: {error}")]
    Answer {
        /// What was to be done.
        what: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A node has another name than was asked for.
    #[error(
        "GNS3 calls {wanted} {given}: the name is taken; close the project, or give the other node another name"
    )]
    Renamed {
        /// As asked for.
        wanted: String,
        /// As given.
        given: String,
    },
    /// A node is there, but of another kind.
    #[error(
        "{node} is a {there} node, not a {wanted} one: remove the lab first with `cargo lab gns3 destroy`, or give --nodes"
    )]
    OtherKind {
        /// Its name.
        node: String,
        /// Its kind.
        there: String,
        /// As it should be.
        wanted: &'static str,
    },
    /// A file was not written, though GNS3 did not say so.
    #[error("GNS3 did not write {file} of {node}: may its user write into the project's folder?")]
    NotWritten {
        /// Which.
        file: String,
        /// Whose.
        node: String,
    },
    /// Properties were not taken, though GNS3 did not say so.
    #[error("GNS3 did not take {names} of {node}: remove the node in GNS3, and deploy again")]
    NotTaken {
        /// The node.
        node: String,
        /// Which.
        names: String,
    },
    /// A node still runs, though GNS3 did not say so.
    #[error(
        "GNS3 did not stop {node}: stop it by hand (Docker nodes need the docker program in the server's PATH)"
    )]
    NotStopped {
        /// Its name.
        node: String,
    },
    /// A node is not there.
    #[error("project {project} has no node {node}: make it with `cargo lab gns3 deploy`")]
    NoNode {
        /// Where.
        project: String,
        /// Its name.
        node: String,
    },
    /// There is no such project.
    #[error("there is no project {project} on {server}: make it with `cargo lab gns3 deploy`")]
    NoProject {
        /// Its name.
        project: String,
        /// Where.
        server: String,
    },
}

/// What helps against what GNS3 says.
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
