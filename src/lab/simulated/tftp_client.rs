//! Reads one file over TFTP as firmware does (RFC 1350, 2347 to 2349).

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

const PORT: u16 = 69;
const BLOCK: usize = 1468;
const WAIT: Duration = Duration::from_millis(500);
const TRIES: u32 = 4;
/// A loader is smaller.
const FILE_MAX: usize = 16 << 20;

/// One packet from a server. Pure.
#[derive(Debug, PartialEq, Eq)]
enum Packet<'a> {
    Data(u16, &'a [u8]),
    Error(String),
    Options(Vec<(String, String)>),
}

fn read(packet: &[u8]) -> Option<Packet<'_>> {
    let (code, rest) = packet.split_at_checked(2)?;
    let number = || rest.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    match code {
        [0, 3] => Some(Packet::Data(number()?, rest.get(2..)?)),
        [0, 5] => Some(Packet::Error(String::from_utf8_lossy(rest.get(2..)?).trim_end_matches('\0').to_owned())),
        [0, 6] => {
            let mut words = rest.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).to_ascii_lowercase());
            let mut options = Vec::new();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                options.push((name, value));
            }
            Some(Packet::Options(options))
        }
        _ => None,
    }
}

fn request(file: &str) -> Vec<u8> {
    let block = BLOCK.to_string();
    let mut out = vec![0, 1];
    for word in [file, "octet", "blksize", &block, "tsize", "0"] {
        out.extend(word.as_bytes());
        out.push(0);
    }
    out
}

fn acknowledge(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

/// The whole file, or why there is none.
pub async fn fetch(from: Ipv4Addr, server: Ipv4Addr, file: &str) -> Result<Vec<u8>, String> {
    let fault = |e: std::io::Error| format!("tftp://{server}/{file}: {e}");
    let socket = UdpSocket::bind(SocketAddrV4::new(from, 0)).await.map_err(fault)?;
    let mut to = SocketAddrV4::new(server, PORT);
    let (mut say, mut block_size, mut content) = (request(file), 512, Vec::new());
    let (mut next, mut tries) = (1u16, 0);
    let mut buffer = vec![0u8; BLOCK + 4];
    loop {
        socket.send_to(&say, to).await.map_err(fault)?;
        let (len, peer) = match timeout(WAIT, socket.recv_from(&mut buffer)).await {
            Ok(Ok((len, std::net::SocketAddr::V4(peer)))) => (len, peer),
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => return Err(fault(error)),
            Err(_) if tries < TRIES => {
                tries += 1;
                continue;
            }
            Err(_) => return Err(format!("tftp://{server}/{file}: no answer")),
        };
        // The transfer's own port answers (RFC 1350 section 4).
        if peer.ip() != to.ip() || (to.port() != PORT && peer.port() != to.port()) {
            continue;
        }
        match read(&buffer[..len]) {
            Some(Packet::Error(why)) => return Err(format!("tftp://{server}/{file}: {why}")),
            Some(Packet::Options(options)) if content.is_empty() => {
                let agreed = options.iter().find(|(name, _)| name == "blksize").and_then(|(_, v)| v.parse().ok());
                block_size = agreed.unwrap_or(block_size);
                (to, say) = (peer, acknowledge(0));
            }
            Some(Packet::Data(number, data)) if number == next => {
                (to, tries) = (peer, 0);
                content.extend_from_slice(data);
                if content.len() > FILE_MAX {
                    return Err(format!("tftp://{server}/{file}: more than {FILE_MAX} bytes"));
                }
                say = acknowledge(number);
                next = next.wrapping_add(1);
                if data.len() < block_size {
                    // The last acknowledgement is not answered.
                    socket.send_to(&say, to).await.map_err(fault)?;
                    return Ok(content);
                }
            }
            _ => {
                tries += 1;
                if tries > TRIES {
                    return Err(format!("tftp://{server}/{file}: what comes makes no sense"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packets_of_a_server() {
        assert_eq!(read(&[0, 3, 0, 1, b'x']), Some(Packet::Data(1, b"x")));
        assert_eq!(read(b"\0\x05\0\x01gone\0"), Some(Packet::Error("gone".into())));
        assert_eq!(read(b"\0\x06BLKSIZE\x001468\0"), Some(Packet::Options(vec![("blksize".into(), "1468".into())])));
        assert_eq!(read(&[0]), None);
        assert!(request("a").starts_with(b"\0\x01a\0octet\0blksize\0"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }
    }
}
