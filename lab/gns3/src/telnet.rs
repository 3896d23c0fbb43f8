//! The telnet protocol (RFC 854) as GNS3's consoles use it: a filter that negotiates options and
//! removes commands from the text.

use std::collections::HashSet;

const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;
const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Command,
    Option(u8),
    Subnegotiation,
    SubnegotiationCommand,
}

/// The state of one side of a connection.
#[derive(Debug, Default)]
pub struct Telnet {
    state: State,
    /// The sent answers, so that none is sent twice.
    answered: HashSet<(u8, u8)>,
}

impl Telnet {
    /// Processes received bytes: appends their text to `text`, and the bytes that must be sent in
    /// answer to `reply`.
    pub fn receive(&mut self, bytes: &[u8], text: &mut Vec<u8>, reply: &mut Vec<u8>) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, IAC) => State::Command,
                (State::Text, _) => {
                    text.push(byte);
                    State::Text
                }
                (State::Command, IAC) => {
                    text.push(IAC);
                    State::Text
                }
                (State::Command, WILL | WONT | DO | DONT) => State::Option(byte),
                (State::Command, SB) => State::Subnegotiation,
                (State::Command, _) => State::Text,
                (State::Option(verb), option) => {
                    self.answer(verb, option, reply);
                    State::Text
                }
                (State::Subnegotiation, IAC) => State::SubnegotiationCommand,
                (State::Subnegotiation, _) => State::Subnegotiation,
                (State::SubnegotiationCommand, SE) => State::Text,
                (State::SubnegotiationCommand, _) => State::Subnegotiation,
            };
        }
    }

    /// Answers an option. The other side may echo and suppress go-aheads, and both sides may send
    /// binary data; all other options are refused.
    fn answer(&mut self, verb: u8, option: u8, reply: &mut Vec<u8>) {
        let answer = match verb {
            WILL if matches!(option, BINARY | ECHO | SUPPRESS_GO_AHEAD) => DO,
            WILL => DONT,
            DO if matches!(option, BINARY | SUPPRESS_GO_AHEAD) => WILL,
            DO => WONT,
            _ => return,
        };
        if self.answered.insert((answer, option)) {
            reply.extend([IAC, answer, option]);
        }
    }

    /// The bytes by which `text` is sent.
    #[must_use]
    pub fn escaped(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(text.len());
        for &byte in text {
            bytes.push(byte);
            if byte == IAC {
                bytes.push(IAC);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gns3s_greeting_is_answered_once() {
        let mut telnet = Telnet::default();
        let (mut text, mut reply) = (Vec::new(), Vec::new());
        let greeting = b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00\xff\xfd\x1fReady\xff\xff";
        telnet.receive(greeting, &mut text, &mut reply);
        telnet.receive(&greeting[..12], &mut text, &mut reply);
        assert_eq!(text, b"Ready\xff");
        let expected = b"\xff\xfd\x01\xff\xfd\x03\xff\xfd\x00\xff\xfb\x00\xff\xfc\x1f";
        assert_eq!(reply, expected);
    }

    proptest! {
        #[test]
        fn any_text_passes_in_any_pieces(text in proptest::collection::vec(any::<u8>(), 0..300),
                                         piece in 1usize..20) {
            let mut telnet = Telnet::default();
            let (mut received, mut reply) = (Vec::new(), Vec::new());
            for piece in Telnet::escaped(&text).chunks(piece) {
                telnet.receive(piece, &mut received, &mut reply);
            }
            prop_assert_eq!(received, text);
            prop_assert!(reply.is_empty());
        }
    }
}
