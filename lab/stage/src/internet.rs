//! The gateway's HTTPS and DNS servers, for nodes with a root file system of their own. The
//! certificate is signed by the lab's own certificate authority.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::StageError;
use crate::network::Network;
use crate::node::GATEWAY;

/// The gateway's DNS name, in a domain that is reserved for tests (RFC 6761, section 6.2).
pub const NAME: &str = "files.siar.test";

const HTTPS_PORT: u16 = 443;
const DNS_PORT: u16 = 53;
const TTL_SECONDS: u32 = 60;
const MAX_HEAD: usize = 16 << 10;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The beginning of the files' URLs: scheme and host.
#[must_use]
pub fn origin() -> String {
    format!("https://{NAME}")
}

/// Starts the gateway's HTTPS and DNS servers, which run until this process ends. The HTTPS
/// server passes requests on to the HTTP server at `upstream`, a TCP port of the gateway.
/// Writes the authority's certificate into `dir` and returns the certificate's path.
///
/// # Errors
/// A port is taken, or the certificate cannot be made or written.
pub fn start(network: &Network, upstream: u16, dir: &Path) -> Result<PathBuf, StageError> {
    let path = dir.join("lab-ca.pem");
    let (authority, config) = certificate().map_err(StageError::file(&path))?;
    std::fs::write(&path, authority).map_err(StageError::file(&path))?;
    let open = || {
        let address = GATEWAY.address;
        let https = TcpListener::bind((address, HTTPS_PORT))?;
        Ok((https, UdpSocket::bind((address, DNS_PORT))?))
    };
    let (https, dns) = network.on(GATEWAY, open).map_err(StageError::file(Path::new(NAME)))?;
    let config = Arc::new(config);
    // A new thread inherits the network namespace of the thread that starts it.
    let serve = move || {
        thread::spawn(move || serve_dns(&dns));
        thread::spawn(move || {
            for stream in https.incoming().map_while(Result::ok) {
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    // The client reports a broken connection; the gateway need not.
                    if let Err(error) = relay(stream, config, upstream) {
                        log::debug!("{NAME}: {error}");
                    }
                });
            }
        });
        Ok(())
    };
    network.on(GATEWAY, serve).map_err(StageError::file(Path::new(NAME)))?;
    Ok(path)
}

/// The authority's certificate in PEM, and a TLS configuration with a certificate that the
/// authority has signed.
fn certificate() -> io::Result<(String, ServerConfig)> {
    let make = || -> Result<_, rcgen::Error> {
        let mut of_authority = CertificateParams::new(Vec::new())?;
        of_authority.distinguished_name.push(DnType::CommonName, "Siar lab");
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let of_server = CertificateParams::new(vec![NAME.to_owned()])?;
        let certificate = of_server.signed_by(&key, &authority)?;
        Ok((authority.pem(), certificate.der().clone(), key.serialize_der()))
    };
    let (authority, certificate, key) = make().map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).map_err(io::Error::other)?;
    Ok((authority, config))
}

/// Passes one request and its answer on. One connection carries one request.
fn relay(stream: TcpStream, config: Arc<ServerConfig>, upstream: u16) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() == MAX_HEAD || client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    let mut server = TcpStream::connect((GATEWAY.address, upstream))?;
    server.write_all(&head)?;
    io::copy(&mut server, &mut client)?;
    client.conn.send_close_notify();
    client.flush()
}

fn serve_dns(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let answer = Packet::parse(&buffer[..len]).and_then(|query| answer(&query));
        match answer {
            // A resolver repeats a question that stays without an answer.
            Ok(answer) => drop(socket.send_to(&answer, from)),
            Err(error) => log::debug!("question from {from}: {error}"),
        }
    }
}

/// The reply to a DNS query: only [`NAME`] exists, and it has an IPv4 address only.
fn answer(query: &Packet<'_>) -> simple_dns::Result<Vec<u8>> {
    let mut reply = Packet::new_reply(query.id());
    for question in &query.questions {
        if !question.qname.to_string().eq_ignore_ascii_case(NAME) {
            *reply.rcode_mut() = RCODE::NameError;
        } else if question.qtype == QTYPE::TYPE(TYPE::A) {
            let address = A::from(GATEWAY.address);
            let (name, data) = (question.qname.clone(), RData::A(address));
            reply.answers.push(ResourceRecord::new(name, CLASS::IN, TTL_SECONDS, data));
        }
        reply.questions.push(question.clone());
    }
    reply.build_bytes_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::{Name, QCLASS, Question};

    fn ask(name: &str, kind: TYPE) -> (RCODE, usize) {
        let mut query = Packet::new_query(7);
        let name = Name::new(name).unwrap();
        query.questions.push(Question::new(name, kind.into(), QCLASS::CLASS(CLASS::IN), false));
        let bytes = answer(&query).unwrap();
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!(reply.id(), 7);
        (reply.rcode(), reply.answers.len())
    }

    #[test]
    fn one_name_is_known() {
        assert_eq!(ask(NAME, TYPE::A), (RCODE::NoError, 1));
        assert_eq!(ask("FILES.siar.test", TYPE::A), (RCODE::NoError, 1));
        assert_eq!(ask(NAME, TYPE::AAAA), (RCODE::NoError, 0));
        assert_eq!(ask("other.siar.test", TYPE::A), (RCODE::NameError, 0));
    }
}
