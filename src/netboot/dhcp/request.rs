//! What a client's packet says, read without trust.
//!
//! The fixed header is decoded by `dhcproto`. The options are walked here: that crate stops at the first option that
//! it cannot decode (a host name that is no UTF-8 would hide everything behind it) and asserts on the length of
//! option 94 in debug builds.

use std::{collections::BTreeMap, net::Ipv4Addr};

use dhcproto::{
    Decodable, Decoder,
    v4::{HType, Message, Opcode},
};
use uuid::Uuid;

use crate::model::Mac;

/// Where the options begin: 236 bytes of BOOTP and the magic cookie.
const HEADER: usize = 240;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
}

/// What stands at the other end, as far as booting goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// Option 77 says `iPXE`: it can take a script over HTTP.
    Ipxe,
    /// Option 60 `PXEClient…`, with option 93.
    Pxe(u16),
    /// Option 60 `HTTPClient…`, with option 93.
    Http(u16),
    /// U-Boot's first try, which wants a boot script by name (option 93 is 22).
    UBoot,
    /// An operating system or initrd. Option 60 as text, cleaned.
    Plain(String),
}

/// A request that may be answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub header: Message,
    pub mac: Mac,
    pub kind: Kind,
    pub client: Client,
    /// Option 97 without its type byte; `None` where absent, of another type, or all zero.
    pub uuid: Option<[u8; 16]>,
    pub requested: Option<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    /// Option 55.
    pub wants: Vec<u8>,
    /// Option 97 as sent: PXE clients want it back (RFC 4578 section 2.3).
    pub machine_id: Option<Vec<u8>>,
    /// Option 61, echoed (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Option 82, echoed to the relay that set it (RFC 3046).
    pub relay_info: Option<Vec<u8>>,
}

impl Request {
    /// The reason is for a person: what about the packet keeps it from being answered.
    pub fn read(packet: &[u8]) -> Result<Request, String> {
        let fixed = packet.get(..HEADER).ok_or_else(|| format!("{} bytes are no DHCP packet", packet.len()))?;
        if fixed.get(236..) != Some(&dhcproto::v4::MAGIC) {
            return Err("no DHCP magic cookie (plain BOOTP is not answered)".to_owned());
        }
        let header = Message::decode(&mut Decoder::new(fixed)).map_err(|e| format!("malformed header: {e}"))?;
        if header.opcode() != Opcode::BootRequest {
            return Err("not a request".to_owned());
        }
        // `chaddr()` slices by the length the packet claims, so the length is looked at first.
        if header.htype() != HType::Eth || header.hlen() != 6 {
            return Err("not an Ethernet client".to_owned());
        }
        let mac = Mac(header.chaddr().try_into().map_err(|_| "no hardware address".to_owned())?);
        let options = options(packet.get(HEADER..).unwrap_or_default());
        let address = |code: u8| {
            let bytes = <[u8; 4]>::try_from(options.get(&code)?.as_slice()).ok()?;
            Some(Ipv4Addr::from(bytes)).filter(|a| !a.is_unspecified())
        };
        let kind = match options.get(&53).map(Vec::as_slice) {
            Some([1]) => Kind::Discover,
            Some([3]) => Kind::Request,
            Some([4]) => Kind::Decline,
            Some([7]) => Kind::Release,
            Some([8]) => Kind::Inform,
            Some([other]) => return Err(format!("message type {other} is not a client's")),
            _ => return Err("no message type (plain BOOTP is not answered)".to_owned()),
        };
        Ok(Request {
            mac,
            kind,
            client: client(&options),
            uuid: options.get(&97).and_then(|id| uuid(id)),
            requested: address(50),
            server: address(54),
            wants: options.get(&55).cloned().unwrap_or_default(),
            machine_id: options.get(&97).filter(|id| id.len() == 17).cloned(),
            client_id: options.get(&61).filter(|id| (2..=64).contains(&id.len())).cloned(),
            relay_info: options.get(&82).filter(|info| info.len() <= 255).cloned(),
            header,
        })
    }

    /// Whether option 97 contradicts this UUID. Firmware is at odds over the byte order of the first three fields
    /// (SMBIOS: little-endian since 2.6; RFC 4578 leaves it open), so either order passes.
    pub fn contradicts(&self, uuid: Uuid) -> bool {
        self.uuid.is_some_and(|said| said != *uuid.as_bytes() && said != uuid.to_bytes_le())
    }
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Client::Ipxe => f.write_str("iPXE"),
            Client::Pxe(0) => f.write_str("PXE, BIOS"),
            Client::Pxe(7 | 9) => f.write_str("PXE, UEFI x86-64"),
            Client::Pxe(11) => f.write_str("PXE, UEFI arm64"),
            Client::Pxe(arch) => write!(f, "PXE, architecture {arch}"),
            Client::Http(16) => f.write_str("HTTP boot, UEFI x86-64"),
            Client::Http(19) => f.write_str("HTTP boot, UEFI arm64"),
            Client::Http(arch) => write!(f, "HTTP boot, architecture {arch}"),
            Client::UBoot => f.write_str("U-Boot, boot script"),
            Client::Plain(class) if class.is_empty() => f.write_str("DHCP"),
            Client::Plain(class) => write!(f, "DHCP, {class}"),
        }
    }
}

fn client(options: &BTreeMap<u8, Vec<u8>>) -> Client {
    let class = options.get(&60).map(Vec::as_slice).unwrap_or_default();
    let arch = options.get(&93).and_then(|a| Some(u16::from_be_bytes(a.get(..2)?.try_into().ok()?)));
    // Bare as iPXE sends it, or as RFC 3004 has it: each class with its length in front.
    let ipxe = options
        .get(&77)
        .is_some_and(|user| user == b"iPXE" || user.windows(5).any(|part| part == [4, b'i', b'P', b'X', b'E']));
    match arch {
        _ if ipxe => Client::Ipxe,
        Some(22) => Client::UBoot,
        Some(arch) if class.starts_with(b"HTTPClient") => Client::Http(arch),
        Some(arch) if class.starts_with(b"PXEClient") => Client::Pxe(arch),
        _ => Client::Plain(
            class.iter().filter(|b| b.is_ascii_graphic() || **b == b' ').take(32).map(|b| *b as char).collect(),
        ),
    }
}

fn uuid(option: &[u8]) -> Option<[u8; 16]> {
    let bytes = <[u8; 16]>::try_from(option.strip_prefix(&[0])?).ok()?;
    (bytes != [0; 16]).then_some(bytes)
}

/// Code → value. A code that stands twice is one long value (RFC 3396). Reading ends quietly at a cut-off option:
/// what stands before it was whole.
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
