//! Ethernet, IPv4 and UDP as bytes: replies to clients that have no address yet leave as whole frames, because ARP
//! cannot find them. Also the Internet checksum (RFC 1071).

use std::net::Ipv4Addr;

use crate::model::Mac;

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
pub const BROADCAST: Mac = Mac([0xff; 6]);
const UDP: u8 = 17;

/// One end of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub mac: Mac,
    pub ip: Ipv4Addr,
    pub port: u16,
}

/// One's complement sum of big-endian words, complemented (RFC 1071).
pub fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = 0u32;
    let mut odd: Option<u8> = None;
    for byte in parts.into_iter().flatten().copied() {
        match odd.take() {
            None => odd = Some(byte),
            Some(high) => sum += u32::from(u16::from_be_bytes([high, byte])),
        }
        if sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    if let Some(high) = odd {
        sum += u32::from(u16::from_be_bytes([high, 0]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A whole frame. The payload must fit one packet (callers send at most a DHCP message).
pub fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let total = 20 + udp_len;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend_from_slice(&from.ip.octets());
    ip.extend_from_slice(&to.ip.octets());
    let ip_sum = checksum([ip.as_slice()]);
    ip[10..12].copy_from_slice(&ip_sum.to_be_bytes());

    let mut header = Vec::with_capacity(8);
    header.extend_from_slice(&from.port.to_be_bytes());
    header.extend_from_slice(&to.port.to_be_bytes());
    header.extend_from_slice(&udp_len.to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    let mut pseudo = Vec::with_capacity(12);
    pseudo.extend_from_slice(&from.ip.octets());
    pseudo.extend_from_slice(&to.ip.octets());
    pseudo.extend_from_slice(&[0, UDP]);
    pseudo.extend_from_slice(&udp_len.to_be_bytes());
    // Zero would mean "no checksum" (RFC 768).
    let sum = match checksum([pseudo.as_slice(), header.as_slice(), payload]) {
        0 => 0xffff,
        sum => sum,
    };
    header[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(to.mac, from.mac, ETHERTYPE_IPV4);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

/// The 14 bytes before a payload.
pub fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(1514);
    frame.extend_from_slice(&to.0);
    frame.extend_from_slice(&from.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// Where a UDP datagram came from, and its payload; `None` for anything but a whole, unfragmented one.
pub fn read_udp(frame: &[u8]) -> Option<(Ipv4Addr, u16, u16, &[u8])> {
    let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&ETHERTYPE_IPV4.to_be_bytes()))?;
    let header_len = usize::from(ip.first().filter(|b| *b >> 4 == 4)? & 0x0f) * 4;
    let total = usize::from(word(ip, 2)?);
    let fragment = word(ip, 6)? & 0x3fff;
    if header_len < 20 || fragment != 0 || ip.get(9) != Some(&UDP) {
        return None;
    }
    let source = Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(12..16)?).ok()?);
    let datagram = ip.get(header_len..total)?;
    let len = usize::from(word(datagram, 4)?);
    Some((source, word(datagram, 0)?, word(datagram, 2)?, datagram.get(8..len)?))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sums_as_in_rfc_1071() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum([data.as_slice()]), !0xddf2);
        assert_eq!(checksum([&data[..3], &data[3..]]), !0xddf2, "split at an odd place");
    }

    #[test]
    fn sums_the_header_of_a_known_packet() {
        // The worked example of the IPv4 header checksum (172.16.10.99 → 172.16.10.12).
        let header = [
            0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0, 0, 0xac, 0x10, 0x0a, 0x63, 0xac, 0x10, 0x0a,
            0x0c,
        ];
        assert_eq!(checksum([header.as_slice()]), 0xb1e6);
    }

    fn end(last: u8, port: u16) -> End {
        End { mac: Mac([2, 0, 0, 0, 0, last]), ip: Ipv4Addr::new(10, 0, 0, last), port }
    }

    proptest! {
        #[test]
        fn what_is_built_reads_back_and_sums_to_zero(payload in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let frame = udp(end(1, 67), end(2, 68), &payload);
            prop_assert_eq!(read_udp(&frame), Some((Ipv4Addr::new(10, 0, 0, 1), 67, 68, payload.as_slice())));
            prop_assert_eq!(checksum([&frame[14..34]]), 0);
            let len = (8 + payload.len() as u16).to_be_bytes();
            prop_assert_eq!(checksum([&frame[26..34], &[0u8, 17], &len, &frame[34..]]), 0);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_udp(&bytes);
        }
    }
}
