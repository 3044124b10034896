//! The loop: packet, decision, reply, event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{Answer, Decision, SERVER_PORT, decide, proxy, socket::DhcpSocket};
use crate::{
    model::{boot::NetbootEvent, fleet::DhcpMode},
    netboot::{events::Events, live::Current},
};

/// Larger than any message a client may send us.
const LARGEST: usize = 4096;

/// Runs until the process ends. While `muzzled` (another DHCP server is on the wire) nothing is answered.
pub fn run(socket: &DhcpSocket, port: u16, current: &Current, events: &Events, muzzled: &Arc<AtomicBool>) {
    let mut buffer = [0u8; LARGEST];
    loop {
        let (packet, from) = match socket.receive(&mut buffer, Duration::from_secs(60)) {
            Ok(Some(received)) => received,
            Ok(None) => continue,
            Err(error) => {
                // The interface may be down for a moment; the wait keeps a lasting fault from spinning.
                events.ignored(None, format!("port {port} cannot be read: {error}"));
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        let live = current.get();
        let decision = match (live.table.network.dhcp, port) {
            (DhcpMode::Authoritative, SERVER_PORT) => decide(&live, packet),
            (DhcpMode::Proxy, _) => proxy::decide(&live, packet, port, from),
            _ => continue,
        };
        let reply = match decision {
            Decision::Reply(reply) => reply,
            Decision::Ignore { quiet: true, .. } => continue,
            Decision::Ignore { mac, reason, .. } => {
                events.ignored(mac, reason);
                continue;
            }
        };
        if muzzled.load(Ordering::Acquire) {
            events.ignored(Some(reply.mac), "another DHCP server is on this network: not answered".to_owned());
            continue;
        }
        if let Err(error) = socket.send(&reply.message, reply.destination) {
            events.ignored(Some(reply.mac), format!("{}: the reply could not be sent: {error}", reply.node));
            continue;
        }
        let (node, mac, address, client) = (reply.node, reply.mac, reply.address, reply.client);
        match reply.answer {
            Answer::Offer => events.tell(NetbootEvent::DhcpOffered { node, mac, address, client }),
            Answer::Ack => events.tell(NetbootEvent::DhcpAcked { node, mac, address, client }),
            Answer::Nak => {
                events.ignored(Some(mac), format!("{node}: asked for another address and was told to start again"));
            }
        }
    }
}
