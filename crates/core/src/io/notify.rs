//! Messages to the service manager that started the process, as `sd_notify` of systemd sends them:
//! each is a datagram to the Unix socket that `$NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The process does its work from now on.
pub(crate) const READY: &str = "READY=1";
/// The process begins to end.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// The longest wait until the service manager takes a message: the caller has work to do.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Tells the service manager a new state, if there is a service manager. A failure is a warning:
/// the process can do its work without.
pub(crate) fn tell_service_manager(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        log::warn!("the service manager's socket {} takes no {state}: {error}", socket.display());
    }
}

/// Sends a message to the socket of this name; `@` begins the name of an abstract one.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(TIMEOUT))?;
    sender.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn messages_reach_sockets_of_both_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let of_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("siar-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let of_name = UnixDatagram::bind_addr(&address).unwrap();
        let sockets =
            [(of_path, path.into_os_string()), (of_name, OsString::from(format!("@{name}")))];
        for (receiver, named) in sockets {
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            send(&named, READY).unwrap();
            let mut buffer = [0; 64];
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], READY.as_bytes(), "{}", named.display());
        }
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = send(dir.path().join("notify").as_os_str(), READY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
