//! DHCP (RFC 2131) with PXE (RFC 4578) as a decision: packet in, reply and its destination out. Addresses are fixed
//! per machine, so there is no lease to keep and nothing to remember between packets.

pub mod offer;
pub mod proxy;
pub mod reply;
pub mod request;
pub mod serve;
pub mod socket;

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::{
    model::{
        Mac,
        boot::{BootMachine, BootSubnet},
    },
    netboot::live::Live,
};
use reply::Content;
use request::{Kind, Request};

pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;
/// Where PXE clients ask a proxy for what to boot (PXE 2.1 section 2.2).
pub const PROXY_PORT: u16 = 4011;

/// Where a reply goes (RFC 2131 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To port 67 of the relay that the request came through.
    Relay(Ipv4Addr),
    /// A refusal: the client's address is wrong, so it cannot be reached by it.
    NakBroadcast,
    /// To port 68 of the address that the client has.
    Client(Ipv4Addr),
    /// The client asked for broadcast.
    Broadcast,
    /// To the client's hardware address, in a frame of our own: it cannot answer ARP yet.
    Raw { mac: Mac, address: Ipv4Addr },
    /// Where the packet came from (port 4011).
    Back(SocketAddrV4),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Offer,
    Ack,
    Nak,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub answer: Answer,
    pub node: String,
    pub mac: Mac,
    pub address: Ipv4Addr,
    /// What asked, for a person.
    pub client: String,
    pub message: Vec<u8>,
    pub destination: Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Reply(Reply),
    Ignore {
        mac: Option<Mac>,
        reason: String,
        /// Traffic that is none of our business (another server's client): not worth an event.
        quiet: bool,
    },
}

impl Decision {
    pub(crate) fn ignore(mac: Mac, reason: impl Into<String>) -> Decision {
        Decision::Ignore { mac: Some(mac), reason: reason.into(), quiet: false }
    }
    pub(crate) fn quiet(mac: Mac, reason: impl Into<String>) -> Decision {
        Decision::Ignore { mac: Some(mac), reason: reason.into(), quiet: true }
    }
}

/// The whole of what our DHCP server knows. `packet` is the UDP payload from port 67.
pub fn decide(live: &Live, packet: &[u8]) -> Decision {
    let request = match Request::read(packet) {
        Ok(request) => request,
        Err(reason) => return Decision::Ignore { mac: None, reason, quiet: false },
    };
    let machine = match known(live, &request) {
        Ok(machine) => machine,
        Err(ignored) => return ignored,
    };
    let subnet = match subnet(live, machine, request.header.giaddr()) {
        Ok(subnet) => subnet,
        Err(reason) => return Decision::ignore(request.mac, reason),
    };
    let ours = live.table.network.server;
    let ciaddr = request.header.ciaddr();
    match request.kind {
        Kind::Discover => answer(live, machine, subnet, &request, Answer::Offer),
        Kind::Request => {
            if request.server.is_some_and(|server| server != ours) {
                return Decision::quiet(request.mac, format!("{}: chose another DHCP server", machine.node));
            }
            // Selecting and init-reboot name the address in option 50, renewing and rebinding in ciaddr.
            let wanted = request.requested.or(Some(ciaddr).filter(|a| !a.is_unspecified()));
            match wanted {
                None => Decision::ignore(request.mac, format!("{}: a request without an address", machine.node)),
                Some(wanted) if wanted == machine.address => answer(live, machine, subnet, &request, Answer::Ack),
                Some(_) => answer(live, machine, subnet, &request, Answer::Nak),
            }
        }
        Kind::Inform if ciaddr == machine.address => answer(live, machine, subnet, &request, Answer::Ack),
        Kind::Inform => {
            let reason = format!("{}: informs of {ciaddr}, its address is {}", machine.node, machine.address);
            Decision::ignore(request.mac, reason)
        }
        Kind::Decline => {
            let reason = format!("{}: declines {}: another host uses that address", machine.node, machine.address);
            Decision::ignore(request.mac, reason)
        }
        Kind::Release => Decision::quiet(request.mac, format!("{}: released its address", machine.node)),
    }
}

/// The machine that sent this, unless it is none of the run's or says that it is another.
fn known<'a>(live: &'a Live, request: &Request) -> Result<&'a BootMachine, Decision> {
    let machine =
        live.machine(request.mac).ok_or_else(|| Decision::ignore(request.mac, "not a machine of this run"))?;
    match machine.uuid {
        Some(uuid) if request.contradicts(uuid) => {
            let said = request.uuid.map(|bytes| uuid::Uuid::from_bytes(bytes).to_string()).unwrap_or_default();
            let reason = format!("{}: says UUID {said}, the table says {uuid}: not the same machine", machine.node);
            Err(Decision::ignore(request.mac, reason))
        }
        _ => Ok(machine),
    }
}

/// The machine's subnet, if the request came over a way that leads to it.
fn subnet<'a>(live: &'a Live, machine: &BootMachine, giaddr: Ipv4Addr) -> Result<&'a BootSubnet, String> {
    let network = &live.table.network;
    let subnet =
        network.subnets.iter().find(|subnet| subnet.cidr.contains(&machine.address)).ok_or_else(|| {
            format!("{}: {} is in no subnet of network {}", machine.node, machine.address, network.name)
        })?;
    if giaddr.is_unspecified() {
        if !subnet.cidr.contains(&network.server) {
            return Err(format!(
                "{}: asks on our own segment, its address {} is behind a relay",
                machine.node, machine.address
            ));
        }
    } else if !subnet.relays.contains(&giaddr) {
        return Err(format!("{}: came through {giaddr}, which is no relay of {}", machine.node, subnet.cidr));
    }
    Ok(subnet)
}

fn answer(live: &Live, machine: &BootMachine, subnet: &BootSubnet, request: &Request, answer: Answer) -> Decision {
    let boot = match offer::boot(live, machine, &request.client) {
        Ok(boot) => boot,
        Err(reason) => return Decision::ignore(request.mac, reason),
    };
    let content = Content { live, machine, subnet, request, boot: &boot, answer };
    match reply::build(&content) {
        Ok(message) => Decision::Reply(Reply {
            answer,
            node: machine.node.clone(),
            mac: request.mac,
            address: machine.address,
            client: request.client.to_string(),
            message,
            destination: destination(request, machine.address, answer),
        }),
        Err(error) => Decision::ignore(request.mac, format!("{}: reply cannot be encoded: {error}", machine.node)),
    }
}

/// The five cases, in the order of RFC 2131 section 4.1.
fn destination(request: &Request, address: Ipv4Addr, answer: Answer) -> Destination {
    let header = &request.header;
    if !header.giaddr().is_unspecified() {
        Destination::Relay(header.giaddr())
    } else if answer == Answer::Nak {
        Destination::NakBroadcast
    } else if !header.ciaddr().is_unspecified() {
        Destination::Client(header.ciaddr())
    } else if header.flags().broadcast() {
        Destination::Broadcast
    } else {
        Destination::Raw { mac: request.mac, address }
    }
}
