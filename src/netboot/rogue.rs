//! Another DHCP server on the wire: looked for before the first answer and while serving.

use std::{
    collections::BTreeSet,
    io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    frame::{self, BROADCAST, End},
    packet_socket::{PacketSocket, Receive},
};
use crate::model::Mac;

/// Servers that are named at most.
const MOST: usize = 16;
const SENDS: u32 = 2;

/// Asks for an address as a machine that nobody knows, and lists who offers one. `ours` is left out.
///
/// Takes the whole of `timeout`: servers that look whether an address is free answer late. The request is sent twice.
pub fn probe(interface: &str, ours: Ipv4Addr, timeout: Duration) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = PacketSocket::open(interface, Receive::DhcpReplies)?;
    let seed = *uuid::Uuid::new_v4().as_bytes();
    let mut mac = [seed[0], seed[1], seed[2], seed[3], seed[4], seed[5]];
    // Locally administered, not multicast.
    mac[0] = (mac[0] | 2) & !1;
    let xid = u32::from_be_bytes([seed[12], seed[13], seed[14], seed[15]]);
    let message = discover(Mac(mac), xid);
    let from = End { mac: socket.mac, ip: Ipv4Addr::UNSPECIFIED, port: 68 };
    let to = End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST, port: 67 };
    let question = frame::udp(from, to, &message);

    let started = Instant::now();
    let mut found = BTreeSet::new();
    let mut buffer = [0u8; 2048];
    for attempt in 1..=SENDS {
        socket.send(&question)?;
        let until = started + timeout * attempt / SENDS;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let Some(frame) = socket.receive(&mut buffer, left)? else { break };
            if let Some(server) = read_offer(frame, xid).filter(|server| *server != ours && found.len() < MOST) {
                found.insert(server);
            }
        }
    }
    Ok(found)
}

/// DHCPDISCOVER with the broadcast flag: the address that is offered is never taken.
pub fn discover(mac: Mac, xid: u32) -> Vec<u8> {
    let mut message = vec![0u8; 300];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&xid.to_be_bytes());
    message[10] = 0x80;
    message[28..34].copy_from_slice(&mac.0);
    message[236..240].copy_from_slice(&dhcproto::v4::MAGIC);
    let options = [53, 1, 1, 55, 3, 1, 3, 6, 255];
    message[240..240 + options.len()].copy_from_slice(&options);
    message
}

/// The server that offers, if this frame is an offer to our question: option 54, or else the sender.
pub fn read_offer(frame: &[u8], xid: u32) -> Option<Ipv4Addr> {
    let (source, _, port, message) = frame::read_udp(frame)?;
    if port != 68 || message.first() != Some(&2) || message.get(4..8)? != xid.to_be_bytes() {
        return None;
    }
    let mut rest = message.get(240..)?;
    let (mut server, mut offer) = (source, false);
    while let [code, after @ ..] = rest {
        match (code, after) {
            (255, _) => break,
            (0, _) => rest = after,
            (code, [len, after @ ..]) => {
                let Some((value, after)) = after.split_at_checked(usize::from(*len)) else { break };
                match (code, value) {
                    (53, [kind]) => offer = *kind == 2,
                    (54, [a, b, c, d]) => server = Ipv4Addr::new(*a, *b, *c, *d),
                    _ => {}
                }
                rest = after;
            }
            _ => break,
        }
    }
    offer.then_some(server)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netboot::dhcp::request::{Kind, Request};
    use proptest::prelude::*;

    #[test]
    fn the_question_is_a_discover_that_a_server_can_read() {
        let request = Request::read(&discover(Mac([2, 1, 2, 3, 4, 5]), 7)).unwrap();
        assert_eq!((request.kind, request.mac), (Kind::Discover, Mac([2, 1, 2, 3, 4, 5])));
        assert!(request.header.flags().broadcast());
    }

    #[test]
    fn an_offer_to_us_names_its_server() {
        let mut message = vec![0u8; 240];
        message[0] = 2;
        message[4..8].copy_from_slice(&7u32.to_be_bytes());
        message.extend_from_slice(&[53, 1, 2, 54, 4, 10, 0, 0, 9, 255]);
        let end = |last, port| End { mac: Mac([2; 6]), ip: Ipv4Addr::new(10, 0, 0, last), port };
        let frame = frame::udp(end(1, 67), end(2, 68), &message);
        assert_eq!(read_offer(&frame, 7), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(read_offer(&frame, 8), None, "an answer to somebody else");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_offer(&bytes, 0);
        }
    }
}
