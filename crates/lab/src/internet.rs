//! The gateway as a piece of the internet, for nodes that are real systems: its files by
//! name, over HTTPS, with a certificate that only the lab's own authority vouches for.

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

use crate::LabError;
use crate::network::{GATEWAY, Network};

/// The gateway's name, of a domain that is nobody's (RFC 6761, section 6.2).
pub const NAME: &str = "files.siar.test";

const HTTPS_PORT: u16 = 443;
const DNS_PORT: u16 = 53;
const TTL_SECONDS: u32 = 60;
const MAX_HEAD: usize = 16 << 10;
const STALL: Duration = Duration::from_secs(10);

/// Where the files are to be asked for.
#[must_use]
pub fn origin() -> String {
    format!("https://{NAME}")
}

/// Serves what `upstream`, a port of the gateway, serves over HTTP, over HTTPS as well, and
/// the name of it over DNS, until this process ends. Puts the authority's certificate into
/// `dir` and returns where it stands.
///
/// # Errors
/// A port is taken, or the certificate cannot be made or written.
pub fn start(network: &Network, upstream: u16, dir: &Path) -> Result<PathBuf, LabError> {
    let path = dir.join("lab-ca.pem");
    let (authority, config) = certificate().map_err(LabError::file(&path))?;
    std::fs::write(&path, authority).map_err(LabError::file(&path))?;
    let open = || {
        let address = GATEWAY.address;
        let https = TcpListener::bind((address, HTTPS_PORT))?;
        Ok((https, UdpSocket::bind((address, DNS_PORT))?))
    };
    let (https, dns) = network.on(GATEWAY, open).map_err(LabError::file(Path::new(NAME)))?;
    let config = Arc::new(config);
    // A thread that is started by one of the gateway's stays there.
    let serve = move || {
        thread::spawn(move || answer_names(&dns));
        thread::spawn(move || {
            for stream in https.incoming().map_while(Result::ok) {
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    // Whoever breaks off is told of by the client.
                    if let Err(error) = relay(stream, config, upstream) {
                        log::debug!("{NAME}: {error}");
                    }
                });
            }
        });
        Ok(())
    };
    network.on(GATEWAY, serve).map_err(LabError::file(Path::new(NAME)))?;
    Ok(path)
}

/// The authority in PEM, and a server whose certificate it has signed.
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

/// One request and its answer.
fn relay(stream: TcpStream, config: Arc<ServerConfig>, upstream: u16) -> io::Result<()> {
    stream.set_read_timeout(Some(STALL))?;
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

fn answer_names(socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let answer = Packet::parse(&buffer[..len]).and_then(|query| answer(&query));
        match answer {
            // Whoever asked asks again.
            Ok(answer) => drop(socket.send_to(&answer, from)),
            Err(error) => log::debug!("question from {from}: {error}"),
        }
    }
}

/// The one name's address; no address of version 6; and no other name.
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
