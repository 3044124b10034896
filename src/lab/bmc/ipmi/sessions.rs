//! The BMC's end of RMCP+ sessions: bytes in, an answer or a request out. No socket, no clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::bmc::ipmi::{
    Suite,
    crypto::{self, Exchange, Keys, Random},
    message::Message,
    rakp::{OpenRequest, OpenResponse, Privilege, Proof, Rakp1, Rakp2, Rakp2Proof},
    rmcp::{self, Packet, Payload, Plus},
    session::Window,
    status::Status,
};

/// Sessions at a time, as many BMCs have.
pub const MAX_SESSIONS: usize = 16;
/// Handshakes that nobody has finished.
const MAX_PENDING: usize = 64;
const PENDING: Duration = Duration::from_secs(30);
/// IPMI 2.0, 6.12.15.
const IDLE: Duration = Duration::from_secs(60);
/// Answers that are kept for a request that comes twice.
const KEPT_ANSWERS: usize = 4;

/// An account, as RAKP looks it up.
pub struct Known {
    pub password: Vec<u8>,
    pub most: Privilege,
}

/// How the answers are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    #[default]
    Counted,
    Same,
    Swapped,
}

/// What is wrong with the sessions of this BMC, as its faults say when a packet arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// The answer that never comes.
    pub mute: Option<Payload>,
    /// This log-in finds no room.
    pub no_room: bool,
    pub numbers: Numbers,
    /// A session is forgotten after so many commands.
    pub drop_after: Option<u64>,
}

/// What a packet was.
pub enum Arrived {
    Nothing,
    /// Answered already.
    Reply(Vec<u8>),
    /// A message outside of a session.
    Bare(Message),
    Request {
        session: u32,
        message: Message,
    },
    Sol {
        session: u32,
        payload: Vec<u8>,
    },
}

struct Pending {
    exchange: Exchange,
    most: Privilege,
    began: Duration,
    proof: Option<Known>,
    /// The answer to the last packet, for one that comes twice.
    last: Option<(Payload, u8, Vec<u8>)>,
}

pub struct Open {
    keys: Keys,
    console_session: u32,
    pub most: Privilege,
    pub privilege: Privilege,
    sent: u32,
    commands: u64,
    window: Window,
    used: Duration,
    answers: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// RAKP 4 again, where its first one was lost.
    last: (u8, Vec<u8>),
}

pub struct Sessions {
    pending: BTreeMap<u32, Pending>,
    open: BTreeMap<u32, Open>,
    random: Random,
    guid: [u8; 16],
    pub wrong_passwords: u32,
    pub lies: Lies,
    /// Whose password was proven last, and whether it was right; taken by whoever keeps the accounts.
    pub proven: Option<(Vec<u8>, bool)>,
}

impl Sessions {
    pub fn new(seed: [u8; 32], guid: [u8; 16]) -> Sessions {
        let random = Random::new(seed);
        Sessions {
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            random,
            guid,
            wrong_passwords: 0,
            lies: Lies::default(),
            proven: None,
        }
    }

    pub fn count(&mut self, now: Duration) -> usize {
        self.expire(now);
        self.open.len()
    }
    pub fn forget(&mut self) {
        self.open.clear();
        self.pending.clear();
    }
    pub fn get(&mut self, session: u32) -> Option<&mut Open> {
        self.open.get_mut(&session)
    }
    pub fn close(&mut self, session: u32) -> bool {
        self.open.remove(&session).is_some()
    }

    fn expire(&mut self, now: Duration) {
        self.pending.retain(|_, p| now.saturating_sub(p.began) < PENDING);
        self.open.retain(|_, o| now.saturating_sub(o.used) < IDLE);
    }

    /// `offers`: suites that this BMC has. `look_up`: by user name.
    pub fn receive(
        &mut self,
        now: Duration,
        bytes: &[u8],
        offers: &[Suite],
        limit: Privilege,
        look_up: impl Fn(&[u8]) -> Option<Known>,
    ) -> Arrived {
        self.expire(now);
        match rmcp::parse(bytes) {
            Ok(Packet::Ping { tag }) => Arrived::Reply(rmcp::pong(tag)),
            Ok(Packet::Bare(message)) => Message::decode(message).map_or(Arrived::Nothing, Arrived::Bare),
            Ok(Packet::Plus(plus)) if plus.session == 0 => {
                let (reply, kind) = match plus.kind {
                    Payload::OpenRequest => (self.opening(now, plus.payload, offers), Payload::OpenResponse),
                    Payload::Rakp1 => (self.greeting(plus.payload, limit, look_up), Payload::Rakp2),
                    Payload::Rakp3 => (self.proving(now, plus.payload), Payload::Rakp4),
                    other => (None, other),
                };
                reply.filter(|_| self.lies.mute != Some(kind)).map_or(Arrived::Nothing, Arrived::Reply)
            }
            Ok(Packet::Plus(plus)) => self.protected(now, &plus),
            Ok(Packet::Pong { .. }) | Err(_) => Arrived::Nothing,
        }
    }

    fn opening(&mut self, now: Duration, payload: &[u8], offers: &[Suite]) -> Option<Vec<u8>> {
        let request = OpenRequest::decode(payload).ok()?;
        let suite = Suite::of(request.algorithms).filter(|suite| offers.contains(suite));
        let room = !self.lies.no_room && self.open.len() < MAX_SESSIONS && self.pending.len() < MAX_PENDING;
        let privilege =
            if request.privilege == 0 { Some(Privilege::Administrator) } else { Privilege::of(request.privilege) };
        let refuse = |status| OpenResponse {
            tag: request.tag,
            status,
            privilege: 0,
            console_session: request.console_session,
            granted: None,
        };
        let response = match (suite, privilege, room) {
            (None, _, _) => refuse(Status::NO_CIPHER_SUITE),
            (_, None, _) => refuse(Status::UNAUTHORIZED_ROLE),
            (_, _, false) => refuse(Status::NO_RESOURCES),
            (Some(suite), Some(privilege), true) => {
                let id = self.free_id();
                let exchange = Exchange {
                    suite,
                    console_session: request.console_session,
                    bmc_session: id,
                    console_random: [0; 16],
                    bmc_random: self.random.block(),
                    bmc_guid: self.guid,
                    role: 0,
                    user: Vec::new(),
                };
                let pending = Pending { exchange, most: privilege, began: now, proof: None, last: None };
                self.pending.insert(id, pending);
                OpenResponse {
                    tag: request.tag,
                    status: Status::OK,
                    privilege: privilege.number(),
                    console_session: request.console_session,
                    granted: Some((id, suite.algorithms())),
                }
            }
        };
        Some(rmcp::open(Payload::OpenResponse, &response.encode()))
    }

    fn free_id(&mut self) -> u32 {
        loop {
            let id = self.random.session_id();
            if !self.open.contains_key(&id) && !self.pending.contains_key(&id) {
                return id;
            }
        }
    }

    fn greeting(
        &mut self,
        payload: &[u8],
        limit: Privilege,
        look_up: impl Fn(&[u8]) -> Option<Known>,
    ) -> Option<Vec<u8>> {
        let one = Rakp1::decode(payload).ok()?;
        let Some(pending) = self.pending.get_mut(&one.bmc_session) else {
            let two = Rakp2 { tag: one.tag, status: Status::INVALID_SESSION, console_session: 0, proof: None };
            return Some(rmcp::open(Payload::Rakp2, &two.encode()));
        };
        if let Some((Payload::Rakp1, tag, packet)) = &pending.last
            && *tag == one.tag
        {
            return Some(packet.clone());
        }
        let console_session = pending.exchange.console_session;
        let known = look_up(&one.user);
        let wanted = Privilege::of(one.role);
        let status = match (&known, wanted) {
            _ if one.user.len() > crypto::MAX_USER_BYTES => Status::INVALID_NAME_LENGTH,
            (None, _) => Status::UNAUTHORIZED_NAME,
            (Some(known), Some(wanted)) if wanted <= known.most && wanted <= limit => Status::OK,
            _ => Status::UNAUTHORIZED_ROLE,
        };
        let mut two = Rakp2 { tag: one.tag, status, console_session, proof: None };
        if let (Status::OK, Some(known), Some(wanted)) = (status, known, wanted) {
            pending.most = wanted;
            let exchange = &mut pending.exchange;
            (exchange.console_random, exchange.role, exchange.user) = (one.random, one.role, one.user);
            let code = exchange.bmc_proof(&known.password);
            two.proof = Some(Rakp2Proof { random: exchange.bmc_random, guid: exchange.bmc_guid, code });
            pending.proof = Some(known);
        }
        let packet = rmcp::open(Payload::Rakp2, &two.encode());
        if status == Status::OK {
            pending.last = Some((Payload::Rakp1, one.tag, packet.clone()));
        } else {
            self.pending.remove(&one.bmc_session);
        }
        Some(packet)
    }

    fn proving(&mut self, now: Duration, payload: &[u8]) -> Option<Vec<u8>> {
        let three = Proof::decode(payload).ok()?;
        if let Some(open) = self.open.get(&three.session) {
            return (open.last.0 == three.tag).then(|| open.last.1.clone());
        }
        let Some(pending) = self.pending.remove(&three.session) else {
            let four = Proof { tag: three.tag, status: Status::INVALID_SESSION, session: 0, code: Vec::new() };
            return Some(rmcp::open(Payload::Rakp4, &four.encode()));
        };
        let exchange = pending.exchange;
        if three.status != Status::OK {
            // The console did not believe RAKP 2: it has another password.
            self.wrong_passwords += 1;
            self.proven = Some((exchange.user, false));
            return None;
        }
        let session = exchange.console_session;
        let answer =
            |status, code| rmcp::open(Payload::Rakp4, &Proof { tag: three.tag, status, session, code }.encode());
        let Some(known) = pending.proof else { return Some(answer(Status::INVALID_SESSION, Vec::new())) };
        if !crypto::same(&exchange.console_proof(&known.password), &three.code) {
            self.wrong_passwords += 1;
            self.proven = Some((exchange.user.clone(), false));
            return Some(answer(Status::INVALID_INTEGRITY_CHECK, Vec::new()));
        }
        self.proven = Some((exchange.user.clone(), true));
        let packet = answer(Status::OK, exchange.bmc_check(&known.password));
        let open = Open {
            keys: exchange.keys(&known.password),
            console_session: session,
            most: pending.most,
            privilege: Privilege::User,
            sent: 0,
            commands: 0,
            window: Window::default(),
            used: now,
            answers: VecDeque::new(),
            last: (three.tag, packet.clone()),
        };
        self.open.insert(exchange.bmc_session, open);
        Some(packet)
    }

    fn protected(&mut self, now: Duration, plus: &Plus<'_>) -> Arrived {
        let Some(open) = self.open.get_mut(&plus.session) else { return Arrived::Nothing };
        let Ok(payload) = open.keys.open(plus) else { return Arrived::Nothing };
        if !open.window.take(plus.sequence) {
            return Arrived::Nothing;
        }
        open.used = now;
        open.commands += u64::from(plus.kind == Payload::Ipmi);
        let session = plus.session;
        if self.lies.drop_after.is_some_and(|most| open.commands > most) {
            self.open.remove(&session);
            return Arrived::Nothing;
        }
        match plus.kind {
            Payload::Sol => Arrived::Sol { session, payload },
            Payload::Ipmi => {
                let Ok(message) = Message::decode(&payload) else { return Arrived::Nothing };
                // The same request again: its answer was lost. It is not carried out twice.
                let kept =
                    open.answers.iter().find(|(request, _)| *request == payload).map(|(_, answer)| answer.clone());
                match kept.and_then(|answer| self.seal(session, Payload::Ipmi, &answer)) {
                    Some(packet) => Arrived::Reply(packet),
                    None => Arrived::Request { session, message },
                }
            }
            _ => Arrived::Nothing,
        }
    }

    /// The answer to a request of this session, sealed and kept.
    pub fn reply(&mut self, session: u32, request: &Message, answer: &Message) -> Option<Vec<u8>> {
        let bytes = answer.encode();
        let open = self.open.get_mut(&session)?;
        if open.answers.len() >= KEPT_ANSWERS {
            open.answers.pop_front();
        }
        open.answers.push_back((request.encode(), bytes.clone()));
        self.seal(session, Payload::Ipmi, &bytes)
    }

    pub fn seal(&mut self, session: u32, kind: Payload, payload: &[u8]) -> Option<Vec<u8>> {
        let vector = self.random.block();
        let open = self.open.get_mut(&session)?;
        open.sent = open.sent.checked_add(1).unwrap_or(1);
        let number = match self.lies.numbers {
            Numbers::Counted => open.sent,
            Numbers::Same => 1,
            Numbers::Swapped => open.sent.swap_bytes(),
        };
        Some(open.keys.seal(kind, open.console_session, number, payload, vector))
    }
}
