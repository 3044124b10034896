//! Messages of rtnetlink(7), as bytes: interface up, address, default route.

use crate::cmdline::Network;
use std::net::IpAddr;

const NLM_REQUEST_ACK: u16 = 0x0001 | 0x0004;
const NLM_CREATE_REPLACE: u16 = 0x0400 | 0x0100;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// No duplicate-address detection: the address comes from the inventory and must work at once.
const IFA_F_NODAD: u8 = 0x02;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

fn family(address: &IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(((4 + value.len()) as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    while !out.len().is_multiple_of(4) {
        out.push(0);
    }
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(((16 + payload.len()) as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_REQUEST_ACK | flags).to_ne_bytes());
    out.extend(1u32.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.extend(payload);
    out
}

pub fn link_up(index: u32) -> Vec<u8> {
    link(index, IFF_UP)
}

pub fn link_down(index: u32) -> Vec<u8> {
    link(index, 0)
}

fn link(index: u32, up: u32) -> Vec<u8> {
    // struct ifinfomsg
    let mut payload = vec![0u8; 4];
    payload.extend(index.to_ne_bytes());
    payload.extend(up.to_ne_bytes());
    payload.extend(IFF_UP.to_ne_bytes());
    message(RTM_NEWLINK, 0, &payload)
}

pub fn address(index: u32, network: Network) -> Vec<u8> {
    // struct ifaddrmsg
    let flags = if network.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut payload = vec![family(&network.address), network.prefix, flags, 0];
    payload.extend(index.to_ne_bytes());
    attribute(&mut payload, IFA_LOCAL, &octets(&network.address));
    attribute(&mut payload, IFA_ADDRESS, &octets(&network.address));
    message(RTM_NEWADDR, NLM_CREATE_REPLACE, &payload)
}

pub fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    // struct rtmsg: main table, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST
    let mut payload = vec![family(&gateway), 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
    attribute(&mut payload, RTA_GATEWAY, &octets(&gateway));
    attribute(&mut payload, RTA_OIF, &index.to_ne_bytes());
    message(RTM_NEWROUTE, NLM_CREATE_REPLACE, &payload)
}

/// The kernel's answer: `Ok`, or the errno it names.
pub fn answer(bytes: &[u8]) -> Result<(), i32> {
    let kind = bytes.get(4..6).and_then(|part| part.try_into().ok()).map(u16::from_ne_bytes);
    let code = bytes.get(16..20).and_then(|part| part.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(code.saturating_neg()),
        _ => Err(libc::EPROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_padding() {
        let network = Network { address: "10.0.2.15".parse().unwrap(), prefix: 24 };
        for bytes in [
            link_up(2),
            link_down(2),
            address(2, network),
            address(2, Network { address: "fd00::1".parse().unwrap(), prefix: 64 }),
            default_route(2, "10.0.2.2".parse().unwrap()),
        ] {
            assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
            assert_eq!(bytes.len() % 4, 0);
        }
        assert_eq!(link_up(2)[20..], [2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(link_down(2)[20..], [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            &address(2, network)[16..],
            [2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 0, 2, 15, 8, 0, 1, 0, 10, 0, 2, 15]
        );
    }

    #[test]
    fn answers() {
        let mut ack = message(NLMSG_ERROR, 0, &0i32.to_ne_bytes());
        assert_eq!(answer(&ack), Ok(()));
        ack[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(answer(&ack), Err(17));
        assert_eq!(answer(&[]), Err(libc::EPROTO));
    }
}
