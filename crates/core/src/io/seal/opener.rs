//! The opener: it opens sealed datagrams, and knows where their sessions are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::aead::{Aad, LessSafeKey};

use super::{COUNTER_AT, HEADER_LEN, Key, SEALED_MAGIC, SessionId, nonce};

/// The largest number of session keys that are kept; with one more, all are derived again.
const MAX_SESSIONS: usize = 4096;
/// The largest number of other addresses of a session, and how long each is remembered.
const MAX_OTHERS: usize = 4;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// The reason why a datagram cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The datagram is not sealed.
    #[error("not sealed, and this side has a key")]
    Plain,
    /// The datagram was sealed with another key, or was changed on the way.
    #[error("sealed with another key, or damaged")]
    Key,
    /// The datagram is not newer than what came before, and came from one more address than a session
    /// can have: somebody else sends it again.
    #[error("sealed, and sent again from many addresses")]
    Repeated,
}

/// An opened datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The frame in the datagram.
    pub frame: &'a [u8],
    /// The session of its sealer.
    pub session: SessionId,
}

/// What an opener knows of a session.
#[derive(Debug)]
struct Session {
    key: Arc<LessSafeKey>,
    /// The highest counter of a datagram of the session, and the address that it came from.
    highest: u64,
    address: SocketAddr,
    /// Other addresses from which datagrams of the session came.
    others: Vec<Other>,
}

/// Another address of a session.
#[derive(Debug)]
struct Other {
    address: SocketAddr,
    heard_at: Instant,
    /// The bytes that came from there, less those of answers.
    balance: usize,
}

impl Session {
    /// Notes a datagram of `len` bytes that came from an address that is not the session's. Returns
    /// `false` if there are too many of these.
    fn hear_elsewhere(&mut self, from: SocketAddr, len: usize) -> bool {
        let now = Instant::now();
        // One host has many ports, but no use of more than one.
        if let Some(known) = self.others.iter_mut().find(|other| other.address.ip() == from.ip()) {
            *known = Other { address: from, heard_at: now, balance: known.balance + len };
            return true;
        }
        self.others.retain(|other| now.saturating_duration_since(other.heard_at) < FORGOTTEN_AFTER);
        if self.others.len() >= MAX_OTHERS {
            return false;
        }
        self.others.push(Other { address: from, heard_at: now, balance: len });
        true
    }

    /// Moves the session to `from`, where its newest datagram came from.
    fn move_to(&mut self, from: SocketAddr) {
        let before = std::mem::replace(&mut self.address, from);
        if before.ip() != from.ip() {
            self.others.retain(|other| other.address.ip() != from.ip());
            // What is owed to the former address is not known: it begins anew.
            self.hear_elsewhere(before, 0);
        }
    }
}

/// The opener of sealed datagrams.
pub struct Opener {
    key: Key,
    /// The sessions of senders that have the key.
    sessions: HashMap<SessionId, Session>,
    opened: Vec<u8>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(…)")
    }
}

impl Opener {
    /// Makes an opener of datagrams that are sealed with `key`.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self { key: key.clone(), sessions: HashMap::new(), opened: Vec::new() }
    }

    /// Opens a sealed datagram that came from `from`.
    ///
    /// # Errors
    /// The datagram is not sealed, its sender does not have the key, or somebody else sends it
    /// again.
    pub fn open(&mut self, from: SocketAddr, datagram: &[u8]) -> Result<Opened<'_>, OpenError> {
        if !datagram.starts_with(&SEALED_MAGIC) {
            return Err(OpenError::Plain);
        }
        let (header, sealed) = datagram.split_at_checked(HEADER_LEN).ok_or(OpenError::Key)?;
        let (mut session, mut counter) = (SessionId::default(), [0; 8]);
        session.copy_from_slice(&header[SEALED_MAGIC.len()..COUNTER_AT]);
        counter.copy_from_slice(&header[COUNTER_AT..]);
        let counter = u64::from_be_bytes(counter);
        let known = self.sessions.get_mut(&session);
        let is_newest = known.as_ref().is_none_or(|known| counter > known.highest);
        let key = known
            .as_ref()
            .map_or_else(|| Arc::new(self.key.of_session(session)), |known| Arc::clone(&known.key));
        self.opened.clear();
        self.opened.extend_from_slice(sealed);
        let opened = key.open_in_place(nonce(counter), Aad::from(header), &mut self.opened);
        let len = opened.map_err(|_| OpenError::Key)?.len();
        match known {
            Some(known) if is_newest => {
                known.highest = counter;
                if known.address != from {
                    known.move_to(from);
                }
            }
            Some(known) => {
                if known.address != from && !known.hear_elsewhere(from, datagram.len()) {
                    return Err(OpenError::Repeated);
                }
            }
            None => {
                if self.sessions.len() >= MAX_SESSIONS {
                    self.sessions.clear();
                }
                self.sessions.insert(
                    session,
                    Session { key, highest: counter, address: from, others: Vec::new() },
                );
            }
        }
        Ok(Opened { frame: &self.opened[..len], session })
    }

    /// Calls `answer` with the other addresses of a session that may be sent `len` bytes more.
    pub fn answer_others(
        &mut self,
        session: SessionId,
        len: usize,
        mut answer: impl FnMut(SocketAddr),
    ) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let now = Instant::now();
        for other in &mut session.others {
            let is_fresh = now.saturating_duration_since(other.heard_at) < FORGOTTEN_AFTER;
            if let Some(left) = other.balance.checked_sub(len).filter(|_| is_fresh) {
                other.balance = left;
                answer(other.address);
            }
        }
    }

    /// Returns the address where a session is, if the session is known.
    #[must_use]
    pub fn address_of(&self, session: SessionId) -> Option<SocketAddr> {
        self.sessions.get(&session).map(|session| session.address)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sealer;
    use super::super::tests::{HERE, sealed};
    use super::*;

    const STRANGER: ([u8; 4], u16) = ([192, 0, 2, 2], 4000);

    /// A stranger hears sealed datagrams and sends them again, also before the true sender is heard.
    #[test]
    fn a_session_is_where_its_newest_datagram_comes_from() {
        let key = Key([1; 32]);
        let (mut sealer, mut opener) = (Sealer::new(&key), Opener::new(&key));
        let datagrams: Vec<_> = (0..4u8).map(|number| sealed(&mut sealer, &[number])).collect();
        let mut open = |from: ([u8; 4], u16), number: usize| {
            let opened = opener.open(from.into(), &datagrams[number]).map(|opened| opened.session);
            opened.map(|session| opener.address_of(session))
        };
        assert_eq!(open(STRANGER, 1), Ok(Some(STRANGER.into())));
        assert_eq!(open(HERE, 2), Ok(Some(HERE.into())));
        assert_eq!(open(STRANGER, 1), Ok(Some(HERE.into())));
        assert_eq!(open(STRANGER, 2), Ok(Some(HERE.into())));
        // What is late or comes twice from the true sender is taken.
        assert_eq!(open(HERE, 0), Ok(Some(HERE.into())));
        assert_eq!(open(HERE, 2), Ok(Some(HERE.into())));
        assert_eq!(open(HERE, 3), Ok(Some(HERE.into())));
    }

    /// A host passes datagrams on before the true sender's own arrive.
    #[test]
    fn who_is_quicker_than_the_sender_does_not_cut_it_off() {
        let key = Key([1; 32]);
        let (mut sealer, mut opener) = (Sealer::new(&key), Opener::new(&key));
        let mut session = SessionId::default();
        for number in 0..3 {
            let datagram = sealed(&mut sealer, &[number; 100]);
            opener.open(STRANGER.into(), &datagram).unwrap();
            session = opener.open(HERE.into(), &datagram).unwrap().session;
        }
        assert_eq!(opener.address_of(session), Some(STRANGER.into()));
        let mut answered = Vec::new();
        for _ in 0..5 {
            opener.answer_others(session, 100, |address| answered.push(address));
        }
        // Three datagrams of 140 bytes came from there.
        assert_eq!(answered, [SocketAddr::from(HERE); 4]);
    }
}
