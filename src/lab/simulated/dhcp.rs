//! The client's half of DHCP as firmware speaks it (RFC 2131, RFC 4578): bytes out, bytes in. Pure.

use std::{collections::BTreeMap, net::Ipv4Addr};

use uuid::Uuid;

use crate::model::{Mac, fleet::BootMode};

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Where the options begin: 236 bytes of BOOTP and the cookie.
const HEADER: usize = 240;
const SHORTEST: usize = 300;

/// Which program of the machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The network card's own.
    Firmware,
    /// iPXE, which the firmware has loaded.
    Ipxe,
}

/// Who asks; the same in every message of one boot.
#[derive(Clone, Debug)]
pub struct Client {
    pub mac: Mac,
    pub uuid: Uuid,
    pub mode: BootMode,
    pub program: Program,
    pub xid: u32,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Discover,
    /// The address that this server has offered.
    Request {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
}

/// A message to the client, as far as booting needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub kind: u8,
    pub address: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Where files come from: `siaddr`, else option 54.
    pub next_server: Option<Ipv4Addr>,
    pub file: Option<String>,
}

pub const OFFER: u8 = 2;
pub const ACK: u8 = 5;

/// Client system architecture (RFC 4578 section 2.1): BIOS, or UEFI x86-64.
fn architecture(mode: BootMode) -> u16 {
    match mode {
        BootMode::Bios => 0,
        BootMode::Uefi => 7,
    }
}

pub fn message(client: &Client, ask: Ask) -> Vec<u8> {
    let mut out = vec![0u8; HEADER];
    out[..4].copy_from_slice(&[1, 1, 6, 0]);
    out[4..8].copy_from_slice(&client.xid.to_be_bytes());
    out[28..34].copy_from_slice(&client.mac.0);
    out[236..240].copy_from_slice(&COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        out.extend([code, value.len() as u8]);
        out.extend(value);
    };
    let arch = architecture(client.mode);
    match ask {
        Ask::Discover => option(53, &[1]),
        Ask::Request { .. } => option(53, &[3]),
    }
    option(57, &1472u16.to_be_bytes());
    if let Ask::Request { address, server } = ask {
        option(50, &address.octets());
        option(54, &server.octets());
    }
    option(55, &[1, 3, 6, 12, 15, 26, 43, 54, 60, 66, 67, 97, 175]);
    option(60, format!("PXEClient:Arch:{arch:05}:UNDI:003016").as_bytes());
    if client.program == Program::Ipxe {
        option(77, b"iPXE");
        // Features: HTTP, initial number of the encapsulated options as iPXE sends them.
        option(175, &[0x13, 1, 1, 0x18, 1, 1]);
    }
    option(93, &arch.to_be_bytes());
    option(94, &[1, 3, 16]);
    let mut machine = vec![0];
    machine.extend(client.uuid.as_bytes());
    option(97, &machine);
    out.push(255);
    if out.len() < SHORTEST {
        out.resize(SHORTEST, 0);
    }
    out
}

/// A reply to this client. `None`: it is another's, or no reply at all.
pub fn read(message: &[u8], client: &Client) -> Option<Told> {
    let fixed = message.get(..HEADER)?;
    let is_ours = fixed[0] == 2
        && fixed[4..8] == client.xid.to_be_bytes()
        && fixed[28..34] == client.mac.0
        && fixed[236..] == COOKIE;
    if !is_ours {
        return None;
    }
    let options = options(&message[HEADER..]);
    let four = |bytes: &[u8]| {
        let octets: [u8; 4] = bytes.try_into().ok()?;
        Some(Ipv4Addr::from(octets)).filter(|a| !a.is_unspecified())
    };
    let kind = *options.get(&53)?.first()?;
    let server = options.get(&54).and_then(|v| four(v));
    let text = |bytes: &[u8]| {
        let text: Vec<u8> = bytes.iter().copied().take_while(|b| *b != 0).collect();
        String::from_utf8(text).ok().filter(|t| !t.is_empty())
    };
    Some(Told {
        kind,
        address: four(&fixed[16..20]),
        server,
        next_server: four(&fixed[20..24]).or(server),
        file: options.get(&67).and_then(|v| text(v)).or_else(|| text(&fixed[108..236])),
    })
}

fn options(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let [code, after @ ..] = rest {
        match (code, after) {
            (255, _) => break,
            (0, _) => rest = after,
            (code, [len, after @ ..]) => {
                let Some((value, after)) = after.split_at_checked(usize::from(*len)) else { break };
                found.entry(*code).or_default().extend_from_slice(value);
                rest = after;
            }
            (_, []) => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netboot::dhcp::request::{self, Kind, Request};
    use proptest::prelude::*;

    fn client(program: Program, mode: BootMode) -> Client {
        Client { mac: Mac([0x52, 0x54, 0, 1, 2, 3]), uuid: Uuid::from_u128(7), mode, program, xid: 42 }
    }

    #[test]
    fn the_server_of_a_run_reads_what_firmware_says() {
        let read = |program, mode, ask| Request::read(&message(&client(program, mode), ask)).unwrap();
        let first = read(Program::Firmware, BootMode::Bios, Ask::Discover);
        assert_eq!((first.kind, first.client.clone()), (Kind::Discover, request::Client::Pxe(0)));
        assert!(!first.contradicts(Uuid::from_u128(7)) && first.contradicts(Uuid::from_u128(8)));
        assert_eq!(read(Program::Firmware, BootMode::Uefi, Ask::Discover).client, request::Client::Pxe(7));
        let ask = Ask::Request { address: Ipv4Addr::new(10, 0, 0, 9), server: Ipv4Addr::new(10, 0, 0, 1) };
        let second = read(Program::Ipxe, BootMode::Uefi, ask);
        assert_eq!((second.kind, second.client.clone()), (Kind::Request, request::Client::Ipxe));
        assert_eq!(second.requested, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(second.server, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    fn reply() -> Vec<u8> {
        let mut reply = message(&client(Program::Firmware, BootMode::Bios), Ask::Discover);
        reply.truncate(HEADER);
        reply[0] = 2;
        reply[16..20].copy_from_slice(&[10, 0, 0, 9]);
        reply[20..24].copy_from_slice(&[10, 0, 0, 1]);
        reply[108..112].copy_from_slice(b"file");
        reply.extend([53, 1, OFFER, 54, 4, 10, 0, 0, 2, 255]);
        reply
    }

    #[test]
    fn a_reply_is_read_by_whom_it_is_for() {
        let ours = client(Program::Firmware, BootMode::Bios);
        let told = read(&reply(), &ours).unwrap();
        assert_eq!(told.address, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(
            (told.server, told.next_server),
            (Some(Ipv4Addr::new(10, 0, 0, 2)), Some(Ipv4Addr::new(10, 0, 0, 1)))
        );
        assert_eq!((told.kind, told.file.as_deref()), (OFFER, Some("file")));
        assert_eq!(read(&reply(), &Client { xid: 43, ..ours.clone() }), None);
        assert_eq!(read(&reply(), &Client { mac: Mac([1; 6]), ..ours }), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = reply();
            bytes.truncate(HEADER);
            bytes.extend(&tail);
            let _ = read(&bytes, &client(Program::Firmware, BootMode::Bios));
            let _ = read(&tail, &client(Program::Firmware, BootMode::Bios));
        }
    }
}
