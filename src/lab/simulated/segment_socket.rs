//! The Ethernet segment that all simulated machines stand on: one raw socket, frames of each machine's own address.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{io::unix::AsyncFd, sync::mpsc, task::JoinHandle};

use super::dhcp::{self, Ask, Client, Told};
use crate::{
    model::Mac,
    netboot::{
        frame::{self, BROADCAST, End},
        packet_socket::{PacketSocket, Receive},
    },
};

/// Replies that wait for one machine; more are dropped, as a network card drops them.
const REPLIES_MAX: usize = 16;
const FRAME_MAX: usize = 2048;
const ETHERTYPE_ARP: u16 = 0x0806;

type Waiting = Arc<Mutex<HashMap<u32, (Client, mpsc::Sender<Told>)>>>;

pub struct Segment {
    socket: Arc<AsyncFd<PacketSocket>>,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

fn held(waiting: &Waiting) -> MutexGuard<'_, HashMap<u32, (Client, mpsc::Sender<Told>)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// On an interface of the namespace that this thread is in.
    pub fn open(interface: &str) -> io::Result<Segment> {
        let socket = PacketSocket::open(interface, Receive::DhcpReplies)?;
        // SAFETY: the socket owns its descriptor and shows the same one for as long as it lives.
        let socket = Arc::new(unsafe { AsyncFd::register(socket) }?);
        let waiting = Waiting::default();
        let reader = tokio::spawn(read(socket.clone(), waiting.clone()));
        Ok(Segment { socket, waiting, reader })
    }

    /// What is told to this client from now on, until the seat is dropped.
    pub fn seat(&self, client: &Client) -> Seat<'_> {
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        held(&self.waiting).insert(client.xid, (client.clone(), sender));
        Seat { segment: self, client: client.clone(), replies }
    }

    /// Says to everybody who has `address` now (RFC 5227 section 3): nobody has to ask, or to ask again.
    pub fn announce(&self, address: Ipv4Addr) -> io::Result<()> {
        let mac = self.socket.get_ref().mac;
        self.socket.get_ref().send(&announcement(mac, address))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut out = frame::ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet, IPv4, lengths, and "request" with both addresses ours.
    out.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    out.extend(mac.0);
    out.extend(address.octets());
    out.extend([0; 6]);
    out.extend(address.octets());
    out
}

async fn read(socket: Arc<AsyncFd<PacketSocket>>, waiting: Waiting) {
    let mut buffer = [0u8; FRAME_MAX];
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        loop {
            match socket.get_ref().receive(&mut buffer, Duration::ZERO) {
                Ok(Some(bytes)) => deliver(bytes, &waiting),
                Ok(None) => break,
                // The interface went down: the laboratory is ending.
                Err(_) => return,
            }
        }
        ready.clear_ready();
    }
}

/// To the machine that it is addressed to, and no other.
fn deliver(bytes: &[u8], waiting: &Waiting) {
    let Some((_, _, port, message)) = frame::read_udp(bytes) else { return };
    let Some(xid) = message.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes) else { return };
    let waiting = held(waiting);
    let Some((client, sender)) = waiting.get(&xid).filter(|_| port == 68) else { return };
    let to = &bytes[..6];
    if (to == client.mac.0 || to == BROADCAST.0)
        && let Some(told) = dhcp::read(message, client)
    {
        let _ = sender.try_send(told);
    }
}

pub struct Seat<'a> {
    segment: &'a Segment,
    client: Client,
    replies: mpsc::Receiver<Told>,
}

impl Seat<'_> {
    /// Broadcast from the machine's own hardware address.
    pub fn ask(&self, ask: Ask) -> io::Result<()> {
        let from = End { mac: self.client.mac, ip: Ipv4Addr::UNSPECIFIED, port: 68 };
        let to = End { mac: BROADCAST, ip: Ipv4Addr::BROADCAST, port: 67 };
        self.segment.socket.get_ref().send(&frame::udp(from, to, &dhcp::message(&self.client, ask)))
    }

    /// The next reply of this kind, within `wait`.
    pub async fn reply(&mut self, kind: u8, wait: Duration) -> Option<Told> {
        let next = async {
            loop {
                let told = self.replies.recv().await?;
                if told.kind == kind {
                    return Some(told);
                }
            }
        };
        tokio::time::timeout(wait, next).await.ok().flatten()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        held(&self.segment.waiting).remove(&self.client.xid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::BootMode;

    #[test]
    fn frames_reach_the_machine_that_they_are_addressed_to() {
        let client = Client {
            mac: Mac([2, 0, 0, 0, 0, 9]),
            uuid: uuid::Uuid::nil(),
            mode: BootMode::Bios,
            program: dhcp::Program::Firmware,
            xid: 7,
        };
        let mut reply = dhcp::message(&client, Ask::Discover);
        reply[0] = 2;
        reply[240..243].copy_from_slice(&[53, 1, dhcp::OFFER]);
        let end = |mac: Mac, port| End { mac, ip: Ipv4Addr::new(10, 0, 0, 1), port };
        let (sender, mut replies) = mpsc::channel(4);
        let waiting = Waiting::default();
        held(&waiting).insert(7, (client.clone(), sender));
        for (to, port, arrives) in
            [(client.mac, 68, true), (BROADCAST, 68, true), (Mac([2; 6]), 68, false), (client.mac, 69, false)]
        {
            deliver(&frame::udp(end(Mac([3; 6]), 67), end(to, port), &reply), &waiting);
            assert_eq!(replies.try_recv().is_ok(), arrives, "{to} {port}");
        }
    }

    #[test]
    fn an_announcement_is_a_whole_arp_packet() {
        let bytes = announcement(Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(bytes.len(), 14 + 28);
        assert_eq!(bytes[12..14], [8, 6]);
        assert_eq!(bytes[28..32], bytes[38..42], "sender and target are the same address");
    }
}
