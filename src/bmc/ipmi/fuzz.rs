//! One door for fuzzing: bytes become packets of a BMC that is partly honest, and drive a session; then the answers of
//! every command. It must end, and must not panic.

use std::{sync::Arc, time::Duration};

use super::{
    chassis,
    crypto::{Exchange, Random, Suite},
    device, fru, guid,
    message::Message,
    options,
    rakp::{OpenRequest, OpenResponse, Proof, Rakp1, Rakp2, Rakp2Proof},
    rmcp::{self, Packet, Payload},
    sdr, sel, sensor,
    session::{Event, Login, Session, Step},
    sol,
    status::Status,
    user,
};
use crate::model::Secret;

const PASSWORD: &str = "fuzz";
const BMC_SESSION: u32 = 0x0BAD_CAFE;
/// Steps of one input.
const MAX_STEPS: usize = 256;

/// A BMC that answers the handshake as it should, as far as it is let.
struct Honest {
    exchange: Exchange,
    sequence: u32,
    random: Random,
}

impl Honest {
    fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match rmcp::parse(packet).ok()? {
            Packet::Bare(message) => {
                let request = Message::decode(message).ok()?;
                Some(rmcp::bare(&request.answer(0, &[1, 0x80, 0, 2, 0, 0, 0, 0]).encode()))
            }
            Packet::Plus(plus) if plus.session == 0 => self.handshake(plus.kind, plus.payload),
            Packet::Plus(plus) => {
                let payload = self.exchange.keys(PASSWORD.as_bytes()).open(&plus).ok()?;
                let request = Message::decode(&payload).ok()?;
                Some(self.sealed(Payload::Ipmi, &request.answer(0, &[4]).encode()))
            }
            _ => None,
        }
    }

    fn handshake(&mut self, kind: Payload, payload: &[u8]) -> Option<Vec<u8>> {
        let (kind, bytes) = match kind {
            Payload::OpenRequest => {
                let request = OpenRequest::decode(payload).ok()?;
                self.exchange.suite = Suite::of(request.algorithms)?;
                self.exchange.console_session = request.console_session;
                let granted = Some((BMC_SESSION, request.algorithms));
                let (tag, privilege) = (request.tag, request.privilege);
                let console_session = request.console_session;
                let response = OpenResponse { tag, status: Status::OK, privilege, console_session, granted };
                (Payload::OpenResponse, response.encode())
            }
            Payload::Rakp1 => {
                let one = Rakp1::decode(payload).ok()?;
                self.exchange.console_random = one.random;
                (self.exchange.role, self.exchange.user) = (one.role, one.user);
                let code = self.exchange.bmc_proof(PASSWORD.as_bytes());
                let proof = Some(Rakp2Proof { random: self.exchange.bmc_random, guid: self.exchange.bmc_guid, code });
                let console_session = self.exchange.console_session;
                (Payload::Rakp2, Rakp2 { tag: one.tag, status: Status::OK, console_session, proof }.encode())
            }
            Payload::Rakp3 => {
                let tag = Proof::decode(payload).ok()?.tag;
                let code = self.exchange.bmc_check(PASSWORD.as_bytes());
                let session = self.exchange.console_session;
                (Payload::Rakp4, Proof { tag, status: Status::OK, session, code }.encode())
            }
            _ => return None,
        };
        Some(rmcp::open(kind, &bytes))
    }

    fn sealed(&mut self, kind: Payload, payload: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let keys = self.exchange.keys(PASSWORD.as_bytes());
        keys.seal(kind, self.exchange.console_session, self.sequence, payload, self.random.block())
    }
}

/// Drives a session with these bytes. Each step takes one byte for what happens and, where it needs some, one for a
/// length and so many for a packet.
pub fn drive(bytes: &[u8]) {
    let Ok(login) = Login::new("fuzz", Arc::new(Secret::new(PASSWORD.to_owned()))) else { return };
    let mut session = Session::new(login, [7; 32]);
    let mut honest = Honest {
        exchange: Exchange {
            suite: Suite::Seventeen,
            console_session: 0,
            bmc_session: BMC_SESSION,
            console_random: [0; 16],
            bmc_random: [1; 16],
            bmc_guid: [2; 16],
            role: 0,
            user: Vec::new(),
        },
        sequence: 0,
        random: Random::new([9; 32]),
    };
    let mut channel = sol::Channel::new(64);
    let mut now = Duration::ZERO;
    let mut step = session.handle(now, Event::Start);
    let mut rest = bytes;
    for _ in 0..MAX_STEPS {
        let Some((what, tail)) = rest.split_first() else { break };
        rest = tail;
        let mut piece = || {
            let (length, tail) = rest.split_first().unwrap_or((&0, &[]));
            let (piece, tail) = tail.split_at_checked(usize::from(*length)).unwrap_or((tail, &[]));
            rest = tail;
            piece
        };
        step = match what % 8 {
            0 | 1 => match step.packets.last().and_then(|packet| honest.answer(packet)) {
                Some(packet) => session.handle(now, Event::Datagram(&packet)),
                None => Step { packets: Vec::new(), ..step },
            },
            2 => session.handle(now, Event::Datagram(piece())),
            3 => {
                let packet = honest.sealed(Payload::Ipmi, piece());
                session.handle(now, Event::Datagram(&packet))
            }
            4 => {
                let payload = piece();
                let mut progress = sol::Progress::default();
                channel.received(now, payload, &mut progress);
                let packet = honest.sealed(Payload::Sol, payload);
                session.handle(now, Event::Datagram(&packet))
            }
            5 => {
                now += Duration::from_secs(u64::from(*what));
                session.handle(now, Event::Tick)
            }
            6 => session.handle(now, Event::Ask(&chassis::status())),
            _ => {
                let kind = [Payload::OpenResponse, Payload::Rakp2, Payload::Rakp4];
                let kind = kind.get(usize::from(*what / 8) % 3).copied().unwrap_or(Payload::Rakp2);
                session.handle(now, Event::Datagram(&rmcp::open(kind, piece())))
            }
        };
    }
    let _ = session.handle(now, Event::Close);
    answers(bytes);
}

/// The same bytes as the answer of every command.
fn answers(bytes: &[u8]) {
    let _ = (chassis::read_status(bytes), device::read_id(bytes), guid::read(bytes));
    let _ = options::read_flags(bytes).map(|flags| flags.read());
    let _ = (sel::read_info(bytes), sel::read_clear(bytes));
    if let Ok((_, entry)) = sel::Entry::read(bytes) {
        let _ = (entry.text(), entry.encode());
    }
    let raw = sensor::read(bytes);
    if let Ok(Some(found)) = sdr::decode(bytes) {
        let thresholds = sensor::read_thresholds(&found, bytes).unwrap_or_default();
        if let Ok(raw) = raw {
            let _ = sensor::reading(found, raw, thresholds);
        }
    }
    let _ = (fru::decode(bytes), fru::read(bytes), fru::read_info(bytes));
    let _ = (user::read_access(bytes), user::read_name(bytes), sol::read_activated(bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_honest_bmc_alone_opens_the_session() {
        // Capabilities, Open Session, RAKP 1, RAKP 3, privilege: five answers, then a request.
        drive(&[0, 0, 0, 0, 0, 6, 0, 5, 5]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), honest in 0usize..8) {
            let bytes = [vec![0; honest], bytes].concat();
            drive(&bytes);
        }
    }
}
