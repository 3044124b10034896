//! The outside of a packet: RMCP, ASF ping and pong, the session headers of IPMI 1.5 and RMCP+ (IPMI 2.0, 13.1 to
//! 13.6; ASF 2.0, 3.2). Total: any bytes are a packet or a [`PacketFault`].

use super::bytes::{Reader, Short};

/// No UDP payload of IPMI is longer; one that is, is nobody's.
pub const MAX_PACKET_BYTES: usize = 1024;
/// Of a payload within RMCP+: what `Activate Payload` offers stays below.
pub const MAX_PAYLOAD_BYTES: usize = 512;

const VERSION: u8 = 0x06;
/// "No acknowledge": IPMI never uses RMCP's own.
const SEQUENCE: u8 = 0xFF;
const CLASS_ASF: u8 = 0x06;
const CLASS_IPMI: u8 = 0x07;
const ASF_IANA: [u8; 4] = [0x00, 0x00, 0x11, 0xBE];
const ASF_PING: u8 = 0x80;
const ASF_PONG: u8 = 0x40;
const AUTH_NONE: u8 = 0x00;
const AUTH_RMCP_PLUS: u8 = 0x06;
const RMCP_BYTES: usize = 4;
const NEXT_HEADER: u8 = 0x07;
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketFault {
    #[error("the packet has {0} bytes, the limit is {MAX_PACKET_BYTES}")]
    TooLong(usize),
    #[error("{0}")]
    Short(#[from] Short),
    #[error("the packet is not RMCP")]
    NotRmcp,
    #[error("RMCP class 0x{0:02x} is neither ASF nor IPMI")]
    Class(u8),
    #[error("ASF message 0x{0:02x} is neither ping nor pong")]
    Asf(u8),
    #[error("authentication type 0x{0:02x} is not driven")]
    AuthType(u8),
    #[error("payload type 0x{0:02x} is not driven")]
    Payload(u8),
    #[error("a packet of the session is not protected")]
    Unprotected,
    #[error("the integrity check of the packet fails")]
    Integrity,
    #[error("the padding of the packet is wrong")]
    Padding,
    #[error("a checksum of the message is wrong")]
    Checksum,
}

/// What RMCP+ carries (table 13-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    Ipmi,
    Sol,
    OpenRequest,
    OpenResponse,
    Rakp1,
    Rakp2,
    Rakp3,
    Rakp4,
}

impl Payload {
    const ALL: [(u8, Payload); 8] = [
        (0x00, Payload::Ipmi),
        (0x01, Payload::Sol),
        (0x10, Payload::OpenRequest),
        (0x11, Payload::OpenResponse),
        (0x12, Payload::Rakp1),
        (0x13, Payload::Rakp2),
        (0x14, Payload::Rakp3),
        (0x15, Payload::Rakp4),
    ];
    pub fn number(self) -> u8 {
        Payload::ALL.iter().find(|(_, kind)| *kind == self).map_or(0, |(number, _)| *number)
    }
    fn of(number: u8) -> Result<Payload, PacketFault> {
        let found = Payload::ALL.iter().find(|(n, _)| *n == number).map(|(_, kind)| *kind);
        found.ok_or(PacketFault::Payload(number))
    }
}

/// A packet of RMCP+ as it came: its protection is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plus<'a> {
    pub kind: Payload,
    pub encrypted: bool,
    pub authenticated: bool,
    /// 0: outside of a session.
    pub session: u32,
    pub sequence: u32,
    pub payload: &'a [u8],
    /// From the authentication type to the end of the packet: what the integrity check is about, and its value.
    pub signed: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Ping {
        tag: u8,
    },
    /// `ipmi`: the BMC says that it speaks IPMI.
    Pong {
        tag: u8,
        ipmi: bool,
    },
    /// An IPMI 1.5 packet outside of a session: its message.
    Bare(&'a [u8]),
    Plus(Plus<'a>),
}

pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, PacketFault> {
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(PacketFault::TooLong(bytes.len()));
    }
    let mut reader = Reader::new(bytes);
    let [version, _, _, class] = reader.array("RMCP header")?;
    if version != VERSION {
        return Err(PacketFault::NotRmcp);
    }
    match class & 0x1F {
        CLASS_ASF => asf(reader),
        CLASS_IPMI => ipmi(reader),
        other => Err(PacketFault::Class(other)),
    }
}

fn asf(mut reader: Reader<'_>) -> Result<Packet<'_>, PacketFault> {
    if reader.array("ASF enterprise number")? != ASF_IANA {
        return Err(PacketFault::NotRmcp);
    }
    let [kind, tag, _, _] = reader.array("ASF header")?;
    match kind {
        ASF_PING => Ok(Packet::Ping { tag }),
        ASF_PONG => {
            let _ = reader.take(8, "ASF numbers")?;
            let entities = reader.u8("supported entities")?;
            Ok(Packet::Pong { tag, ipmi: entities & 0x80 != 0 })
        }
        other => Err(PacketFault::Asf(other)),
    }
}

fn ipmi(mut reader: Reader<'_>) -> Result<Packet<'_>, PacketFault> {
    let signed = reader.rest();
    match reader.u8("authentication type")? {
        AUTH_NONE => {
            let _ = reader.take(8, "session header")?;
            let length = reader.u8("length of the payload")?;
            Ok(Packet::Bare(reader.take(usize::from(length), "message")?))
        }
        AUTH_RMCP_PLUS => {
            let kind = reader.u8("payload type")?;
            let session = reader.u32("session ID")?;
            let sequence = reader.u32("session sequence number")?;
            let length = reader.u16("length of the payload")?;
            let payload = reader.take(usize::from(length), "payload")?;
            Ok(Packet::Plus(Plus {
                kind: Payload::of(kind & 0x3F)?,
                encrypted: kind & ENCRYPTED != 0,
                authenticated: kind & AUTHENTICATED != 0,
                session,
                sequence,
                payload,
                signed,
            }))
        }
        other => Err(PacketFault::AuthType(other)),
    }
}

/// Is the BMC there at all? (ASF presence ping)
pub fn ping(tag: u8) -> Vec<u8> {
    let mut packet = vec![VERSION, 0, SEQUENCE, CLASS_ASF];
    packet.extend(ASF_IANA);
    packet.extend([ASF_PING, tag, 0, 0]);
    packet
}

pub fn pong(tag: u8) -> Vec<u8> {
    let mut packet = vec![VERSION, 0, SEQUENCE, CLASS_ASF];
    packet.extend(ASF_IANA);
    packet.extend([ASF_PONG, tag, 0, 16]);
    packet.extend(ASF_IANA);
    // OEM-defined; supported entities: IPMI, ASF 1.0; no interactions; reserved.
    packet.extend([0, 0, 0, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    packet
}

/// A message outside of a session, in an IPMI 1.5 packet (13.6).
pub fn bare(message: &[u8]) -> Vec<u8> {
    let mut packet = vec![VERSION, 0, SEQUENCE, CLASS_IPMI, AUTH_NONE];
    packet.extend([0; 8]);
    packet.push(u8::try_from(message.len()).unwrap_or(u8::MAX));
    packet.extend(message.iter().take(usize::from(u8::MAX)));
    packet
}

/// An unprotected RMCP+ packet: the handshake.
pub fn open(kind: Payload, payload: &[u8]) -> Vec<u8> {
    header(kind.number(), 0, 0, payload)
}

fn header(kind: u8, session: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![VERSION, 0, SEQUENCE, CLASS_IPMI, AUTH_RMCP_PLUS, kind];
    packet.extend(session.to_le_bytes());
    packet.extend(sequence.to_le_bytes());
    let length = payload.len().min(MAX_PAYLOAD_BYTES);
    packet.extend((length as u16).to_le_bytes());
    packet.extend(payload.iter().take(length));
    packet
}

/// A packet of a session: `payload` is encrypted already; `sign` gives the integrity value of what it covers.
pub fn sealed(
    kind: Payload,
    session: u32,
    sequence: u32,
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let mut packet = header(kind.number() | ENCRYPTED | AUTHENTICATED, session, sequence, payload);
    // From the authentication type to the next-header field the length is a multiple of four (13.28.4).
    let covered = packet.len() - RMCP_BYTES + 2;
    let pad = (4 - covered % 4) % 4;
    packet.extend(std::iter::repeat_n(0xFF, pad));
    packet.extend([pad as u8, NEXT_HEADER]);
    let code = sign(packet.get(RMCP_BYTES..).unwrap_or_default());
    packet.extend(code);
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ping_and_pong() {
        assert_eq!(ping(7), [6, 0, 0xFF, 6, 0, 0, 0x11, 0xBE, 0x80, 7, 0, 0]);
        assert_eq!(parse(&ping(7)), Ok(Packet::Ping { tag: 7 }));
        assert_eq!(parse(&pong(9)), Ok(Packet::Pong { tag: 9, ipmi: true }));
    }

    #[test]
    fn what_is_nobodys_is_named() {
        assert_eq!(parse(&[]), Err(PacketFault::Short(Short("RMCP header"))));
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(PacketFault::NotRmcp));
        assert_eq!(parse(&[6, 0, 0xFF, 8]), Err(PacketFault::Class(8)));
        assert_eq!(parse(&[6, 0, 0xFF, 7, 2]), Err(PacketFault::AuthType(2)));
        assert_eq!(parse(&vec![6; MAX_PACKET_BYTES + 1]), Err(PacketFault::TooLong(MAX_PACKET_BYTES + 1)));
        let mut oem = open(Payload::Ipmi, &[]);
        oem[5] = 2;
        assert_eq!(parse(&oem), Err(PacketFault::Payload(2)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn bytes_with_the_right_beginning_too(tail in proptest::collection::vec(any::<u8>(), 0..80), class in 6u8..8) {
            let mut bytes = vec![6, 0, 0xFF, class];
            bytes.extend(tail);
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            payload in proptest::collection::vec(any::<u8>(), 0..MAX_PAYLOAD_BYTES),
            session: u32,
            sequence: u32,
            at in 0usize..8,
        ) {
            let kind = Payload::ALL[at].1;
            prop_assert!(matches!(parse(&open(kind, &payload)), Ok(Packet::Plus(p))
                if p.kind == kind && p.payload == payload && !p.encrypted && p.session == 0));
            let packet = sealed(kind, session, sequence, &payload, |signed| { assert_eq!(signed.len() % 4, 0); vec![9; 12] });
            prop_assert!(matches!(parse(&packet), Ok(Packet::Plus(p)) if p.kind == kind && p.payload == payload
                && p.encrypted && p.authenticated && p.session == session && p.sequence == sequence
                && p.signed.ends_with(&[9; 12])));
        }
    }
}
