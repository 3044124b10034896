//! Who speaks IPMI at an address: asked without a credential, by ASF's presence ping and by what every log-in asks first
//! (IPMI 2.0, 13.13; 22.13).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::line::RESOLVE;
use crate::bmc::ipmi::{
    Fault,
    handshake::{NAME_ASKING, capabilities_request},
    message::{Message, function},
    rmcp::{self, MAX_PACKET_BYTES, Packet},
};

/// How often all of it is sent within the time: a packet may be lost, and a BMC's first answer to a stranger often waits for
/// ARP.
const TRIES: u32 = 3;
const TAG: u8 = 1;

/// Something that answers as a BMC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    pub at: SocketAddr,
    /// It speaks RMCP+, which alone is driven; `None`: it answers pings, and does not say.
    pub ipmi_2: Option<bool>,
}

/// `None`: nobody there speaks IPMI. Takes `limit` where nothing answers at all.
pub async fn presence(at: SocketAddr, limit: Duration) -> Option<Present> {
    ask(at, limit, &[rmcp::ping(TAG), asking()]).await.unwrap_or_default()
}

/// Whether somebody is there to log in to, before a password's turn is taken for it: a BMC that is silent would keep
/// all others of its group waiting.
///
/// # Errors
/// Nothing listens, or nothing answers within ten seconds.
pub(super) async fn greet(host: &str) -> Result<(), Fault> {
    const LIMIT: Duration = Duration::from_secs(10);
    let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host(host)).await;
    // What is wrong with the name is said by the log-in.
    let Ok(Ok(Some(at))) = found.map(|r| r.map(|mut all| all.next())) else { return Ok(()) };
    match ask(at, LIMIT, &[asking()]).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Fault::NoAnswer { stage: NAME_ASKING, tries: TRIES, seconds: LIMIT.as_secs() }),
        Err(fault) => Err(fault),
    }
}

/// What every log-in asks first (IPMI 2.0, 22.13).
fn asking() -> Vec<u8> {
    rmcp::bare(&Message::request(&capabilities_request(), 1).encode())
}

async fn ask(at: SocketAddr, limit: Duration, packets: &[Vec<u8>]) -> Result<Option<Present>, Fault> {
    let closed = || Fault::NoWay("nothing listens on this UDP port".into());
    let local: IpAddr = if at.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await.map_err(|e| Fault::Local(e.to_string()))?;
    socket.connect(at).await.map_err(|e| Fault::NoWay(format!("{at}: {e}")))?;
    let mut pong = None;
    let began = Instant::now();
    for attempt in 1..=TRIES {
        for packet in packets {
            // What the packet before met is told here too. Lost for another reason: it is sent again.
            if socket.send(packet).await.is_err_and(|error| is_closed(&error)) {
                return if pong.is_some() { Ok(pong) } else { Err(closed()) };
            }
        }
        let until = began + limit * attempt / TRIES;
        let mut buffer = [0u8; MAX_PACKET_BYTES];
        while let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await {
            match received {
                Ok(count) => match answer(buffer.get(..count).unwrap_or_default()) {
                    Some(Heard::Speaks(ipmi_2)) => return Ok(Some(Present { at, ipmi_2: Some(ipmi_2) })),
                    Some(Heard::Pong) => pong = Some(Present { at, ipmi_2: None }),
                    None => {}
                },
                Err(error) if is_closed(&error) => return if pong.is_some() { Ok(pong) } else { Err(closed()) },
                Err(_) => break,
            }
        }
    }
    Ok(pong)
}

/// The host is there and has no such port.
fn is_closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Pong,
    /// IPMI; whether 2.0.
    Speaks(bool),
}

/// `None`: nothing that a BMC says.
fn answer(bytes: &[u8]) -> Option<Heard> {
    match rmcp::parse(bytes).ok()? {
        Packet::Pong { tag: TAG, ipmi: true } => Some(Heard::Pong),
        Packet::Bare(message) => {
            let message = Message::decode(message).ok()?;
            if (message.function, message.command) != (function::APP | 1, 0x38) {
                return None;
            }
            match message.data.as_slice() {
                [0, _, types, ..] => Some(Heard::Speaks(types & 0x80 != 0)),
                // A BMC of before IPMI 2.0 does not know what it is asked with.
                [_, ..] => Some(Heard::Speaks(false)),
                [] => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bmc_says_and_what_it_does_not() {
        let request = Message::request(&capabilities_request(), 1);
        let said = |code, data: &[u8]| answer(&rmcp::bare(&request.answer(code, data).encode()));
        assert_eq!(said(0, &[1, 0x80, 4, 2, 0, 0, 0, 0]), Some(Heard::Speaks(true)));
        assert_eq!(said(0, &[1, 0x15, 4, 0, 0, 0, 0, 0]), Some(Heard::Speaks(false)));
        assert_eq!(said(0xCC, &[]), Some(Heard::Speaks(false)));
        assert_eq!(answer(&rmcp::pong(TAG)), Some(Heard::Pong));
        assert_eq!(answer(&rmcp::pong(TAG + 1)), None, "nobody's");
        assert_eq!(answer(&rmcp::ping(TAG)), None, "an echo is no BMC");
        assert_eq!(answer(&rmcp::bare(&request.encode())), None, "an echo is no BMC");
        assert_eq!(answer(b"HTTP/1.1 400 Bad Request"), None);
    }

    #[tokio::test]
    async fn a_port_that_is_closed_says_so_and_a_silent_one_takes_its_time() {
        let limit = Duration::from_millis(300);
        let began = Instant::now();
        assert_eq!(presence("127.0.0.1:9".parse().unwrap(), Duration::from_secs(20)).await, None);
        assert!(began.elapsed() < Duration::from_secs(10), "it is not waited for what was refused");
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let began = Instant::now();
        assert_eq!(presence(silent.local_addr().unwrap(), limit).await, None);
        assert!(began.elapsed() >= limit);
        let mut buffer = [0; 64];
        for _ in 0..2 * TRIES {
            silent.recv(&mut buffer).await.unwrap();
        }
    }
}
