//! The bytes of a reply.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable, Encoder,
    error::EncodeResult,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::{
    Answer,
    offer::Boot,
    request::{Client, Kind, Request},
};
use crate::{
    model::boot::{BootMachine, BootSubnet},
    netboot::live::Live,
};

/// Shorter messages are dropped by some clients (RFC 951: 300 bytes of BOOTP).
const SHORTEST: usize = 300;
/// The `file` field with its terminating zero.
const FILE_FIELD: usize = 128;
/// PXE discovery control: no broadcast, no multicast, and with bit 3 "take the boot file of this offer": the client
/// asks no boot server (PXE 2.1 table 2-1, option 43 tag 6).
const PXE_TAKE_THIS: [u8; 4] = [6, 1, 8, 255];
/// iPXE's own options: `no-pxedhcp` (tag 0xb0) says that no proxyDHCP answer will come; iPXE then asks at once instead
/// of waiting three seconds.
const IPXE_NO_PROXY: [u8; 3] = [0xb0, 1, 1];

pub struct Content<'a> {
    pub live: &'a Live,
    pub machine: &'a BootMachine,
    pub subnet: &'a BootSubnet,
    pub request: &'a Request,
    pub boot: &'a Boot,
    pub answer: Answer,
}

pub fn build(content: &Content<'_>) -> EncodeResult<Vec<u8>> {
    let Content { live, machine, subnet, request, answer, .. } = content;
    let network = &live.table.network;
    let nak = *answer == Answer::Nak;
    let mut message = header(request);
    let mut options = vec![
        DhcpOption::MessageType(match answer {
            Answer::Offer => MessageType::Offer,
            Answer::Ack => MessageType::Ack,
            Answer::Nak => MessageType::Nak,
        }),
        DhcpOption::ServerIdentifier(network.server),
    ];
    if nak {
        // A relay must broadcast it: the client's address is wrong (RFC 2131 section 4.3.2).
        message.set_flags(message.flags().set_broadcast());
        options.push(DhcpOption::Message(format!("{} has address {}", machine.node, machine.address)));
    } else {
        let informed = request.kind == Kind::Inform;
        if informed || *answer == Answer::Ack {
            message.set_ciaddr(request.header.ciaddr());
        }
        if !informed {
            message.set_yiaddr(machine.address);
            let lease = network.lease_s.max(60);
            options.push(DhcpOption::AddressLeaseTime(lease));
            options.push(DhcpOption::Renewal(lease / 2));
            options.push(DhcpOption::Rebinding(lease / 8 * 7));
        }
        options.push(DhcpOption::SubnetMask(subnet.cidr.netmask()));
        options.push(DhcpOption::BroadcastAddr(subnet.cidr.broadcast()));
        if let Some(gateway) = subnet.gateway {
            options.push(DhcpOption::Router(vec![gateway]));
        }
        if !subnet.dns.is_empty() {
            options.push(DhcpOption::DomainNameServer(subnet.dns.iter().take(8).copied().collect()));
        }
        if !machine.hostname.is_empty() {
            options.push(DhcpOption::Hostname(machine.hostname.clone()));
        }
        if network.mtu >= 576 && request.wants.contains(&26) {
            options.push(DhcpOption::InterfaceMtu(network.mtu));
        }
        boot_options(content.boot, request, network.server, &mut message, &mut options);
    }
    echoes(request, &mut options);
    encode(&message, &options)
}

/// A reply's header with all addresses zero but the relay's.
pub(super) fn header(request: &Request) -> Message {
    let asked = &request.header;
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_xid(asked.xid())
        .set_flags(Flags::from(u16::from(asked.flags()) & 0x8000))
        .set_giaddr(asked.giaddr())
        .set_chaddr(&request.mac.0);
    message
}

pub(super) fn boot_options(
    boot: &Boot,
    request: &Request,
    server: Ipv4Addr,
    message: &mut Message,
    options: &mut Vec<DhcpOption>,
) {
    let name = match boot {
        Boot::Nothing => None,
        Boot::Tftp(name) => {
            options.push(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
            options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            options.push(DhcpOption::VendorExtensions(PXE_TAKE_THIS.to_vec()));
            Some(name)
        }
        Boot::Http(url) => {
            options.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
            Some(url)
        }
        Boot::Script(url) => Some(url),
    };
    if let Some(name) = name {
        message.set_siaddr(server);
        // U-Boot and some ROMs read the field alone, UEFI the option; both get both where it fits.
        if name.len() < FILE_FIELD {
            message.set_fname_str(name);
        }
        options.push(DhcpOption::BootfileName(name.as_bytes().to_vec()));
    }
    if request.client == Client::Ipxe {
        options.push(unknown(175, IPXE_NO_PROXY.to_vec()));
    }
}

pub(super) fn echoes(request: &Request, options: &mut Vec<DhcpOption>) {
    if let (Some(id), Client::Pxe(_) | Client::Http(_) | Client::Ipxe) = (&request.machine_id, &request.client) {
        options.push(DhcpOption::ClientMachineIdentifier(id.clone()));
    }
    if let Some(id) = &request.client_id {
        options.push(DhcpOption::ClientIdentifier(id.clone()));
    }
    // Last of all (RFC 3046 section 2.2), and only for the relay that set it.
    if let Some(info) = request.relay_info.as_ref().filter(|_| !request.header.giaddr().is_unspecified()) {
        options.push(unknown(82, info.clone()));
    }
}

pub(super) fn unknown(code: u8, value: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), value))
}

/// Options in the order given (the message type first, which some ROMs want), then padding to 300 bytes.
pub(super) fn encode(message: &Message, options: &[DhcpOption]) -> EncodeResult<Vec<u8>> {
    let mut bytes = Vec::with_capacity(576);
    let mut encoder = Encoder::new(&mut bytes);
    message.encode(&mut encoder)?;
    for option in options.iter().chain([&DhcpOption::End]) {
        option.encode(&mut encoder)?;
    }
    if bytes.len() < SHORTEST {
        bytes.resize(SHORTEST, 0);
    }
    Ok(bytes)
}
