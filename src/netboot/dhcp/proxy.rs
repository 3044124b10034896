//! ProxyDHCP (PXE 2.1 section 2.2): another server gives the addresses, we say what to boot. Offers carry no address;
//! a client that wants more asks at port 4011.

use std::net::SocketAddrV4;

use dhcproto::v4::{DhcpOption, MessageType};

use super::{
    Answer, Decision, Destination, PROXY_PORT, Reply, known,
    offer::{self, Boot},
    reply,
    request::{Client, Kind, Request},
};
use crate::netboot::live::Live;

/// `port` is ours: 67 or 4011.
pub fn decide(live: &Live, packet: &[u8], port: u16, from: SocketAddrV4) -> Decision {
    let request = match Request::read(packet) {
        Ok(request) => request,
        Err(reason) => return Decision::Ignore { mac: None, reason, quiet: true },
    };
    let machine = match known(live, &request) {
        Ok(machine) => machine,
        Err(ignored) => return ignored,
    };
    let answer = match (port, request.kind) {
        (super::SERVER_PORT, Kind::Discover) => Answer::Offer,
        (PROXY_PORT, Kind::Request | Kind::Inform) => Answer::Ack,
        _ => return Decision::quiet(request.mac, format!("{}: for the address server", machine.node)),
    };
    let boot = match offer::boot(live, machine, &request.client) {
        Ok(Boot::Nothing) => {
            return Decision::quiet(request.mac, format!("{}: nothing to boot is offered", machine.node));
        }
        Ok(boot) => boot,
        Err(reason) => return Decision::ignore(request.mac, reason),
    };
    let server = live.table.network.server;
    let mut message = reply::header(&request);
    let mut options = vec![
        DhcpOption::MessageType(if answer == Answer::Offer { MessageType::Offer } else { MessageType::Ack }),
        DhcpOption::ServerIdentifier(server),
    ];
    reply::boot_options(&boot, &request, server, &mut message, &mut options);
    // A proxy's offer is known by the class it names; iPXE asks for it too.
    if request.client == Client::Ipxe {
        options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
        options.retain(|option| !matches!(option, DhcpOption::Unknown(_)));
    }
    reply::echoes(&request, &mut options);
    let giaddr = request.header.giaddr();
    let destination = match (port, giaddr.is_unspecified()) {
        (PROXY_PORT, _) if !from.ip().is_unspecified() => Destination::Back(from),
        (_, false) if !live.table.network.subnets.iter().any(|s| s.relays.contains(&giaddr)) => {
            return Decision::ignore(
                request.mac,
                format!("{}: came through {giaddr}, which is no relay", machine.node),
            );
        }
        (_, false) => Destination::Relay(giaddr),
        _ => Destination::Broadcast,
    };
    match reply::encode(&message, &options) {
        Ok(message) => Decision::Reply(Reply {
            answer,
            node: machine.node.clone(),
            mac: request.mac,
            address: machine.address,
            client: request.client.to_string(),
            message,
            destination,
        }),
        Err(error) => Decision::ignore(request.mac, format!("{}: reply cannot be encoded: {error}", machine.node)),
    }
}
