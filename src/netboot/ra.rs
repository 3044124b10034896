//! Router advertisements (RFC 4861) that say "no router, no prefix".
//!
//! iPXE waits 14 seconds for an answer to its router solicitation before it asks for its boot script over IPv4. Any
//! advertisement ends the wait; ours has router lifetime zero and no prefix, so it makes nobody's IPv6 work or break.
//! Only the run's machines get one, in a frame to their own hardware address.

use std::net::Ipv6Addr;

use super::frame::{ETHERTYPE_IPV6, checksum, ethernet};
use crate::model::Mac;

const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// ff02::1
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    pub mac: Mac,
    pub source: Ipv6Addr,
}

/// A whole frame that holds a valid router solicitation (RFC 4861 section 6.1.1).
pub fn read(frame: &[u8]) -> Option<Solicitation> {
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&ETHERTYPE_IPV6.to_be_bytes()))?;
    let len = usize::from(u16::from_be_bytes(ip.get(4..6)?.try_into().ok()?));
    // Hop limit 255: it was not forwarded.
    if ip.first()? >> 4 != 6 || ip.get(6..8)? != [ICMPV6, 255] {
        return None;
    }
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(8..24)?).ok()?);
    let target = Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(24..40)?).ok()?);
    let icmp = ip.get(40..40 + len).filter(|icmp| icmp.len() >= 8)?;
    if icmp.get(..2)? != [SOLICITATION, 0] || sum(source, target, icmp) != 0 {
        return None;
    }
    Some(Solicitation { mac, source })
}

/// The answer, from our interface's hardware address. The IPv6 destination is the asker, or all nodes where the asker
/// has no address yet; the frame goes to the asker's hardware address either way.
pub fn advertise(ours: Mac, to: Solicitation) -> Vec<u8> {
    let source = link_local(ours);
    let target = if to.source.is_unspecified() { ALL_NODES } else { to.source };
    let mut icmp = vec![ADVERTISEMENT, 0, 0, 0];
    // Hop limit 64, no flags, router lifetime 0, reachable time and retransmission timer unspecified.
    icmp.extend_from_slice(&[64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Source link-layer address, so that nobody need ask for it.
    icmp.extend_from_slice(&[1, 1]);
    icmp.extend_from_slice(&ours.0);
    let sum = sum(source, target, &icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet(to.mac, ours, ETHERTYPE_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&(icmp.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&target.octets());
    frame.extend_from_slice(&icmp);
    frame
}

/// fe80::/64 with the modified EUI-64 of a hardware address (RFC 4291 appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

fn sum(source: Ipv6Addr, target: Ipv6Addr, icmp: &[u8]) -> u16 {
    let len = (icmp.len() as u32).to_be_bytes();
    checksum([&source.octets()[..], &target.octets()[..], &len[..], &[0, 0, 0, ICMPV6][..], icmp])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What iPXE sends.
    const ASKED: &str = "33330000000252540077000086dd6000000000103afffe80000000000000505400fffe770000ff0200000000000000000000000000028500d997000000000101525400770000";

    #[test]
    fn answers_what_ipxe_asks() {
        let asked = hex::decode(ASKED).unwrap();
        let said = read(&asked).unwrap();
        assert_eq!(said.mac.to_string(), "52:54:00:77:00:00");
        let frame = advertise(Mac([2, 0, 0, 0, 0, 1]), said);
        assert_eq!(&frame[..6], &[0x52, 0x54, 0, 0x77, 0, 0]);
        assert_eq!(frame[54], ADVERTISEMENT);
        assert_eq!(&frame[60..62], &[0, 0], "router lifetime");
        assert_eq!(sum(link_local(Mac([2, 0, 0, 0, 0, 1])), said.source, &frame[54..]), 0);
        assert_eq!(frame[21], 255, "hop limit");
    }

    #[test]
    fn a_broken_sum_or_a_forwarded_packet_is_none() {
        let mut asked = hex::decode(ASKED).unwrap();
        asked[60] ^= 1;
        assert_eq!(read(&asked), None);
        asked[60] ^= 1;
        asked[21] = 254;
        assert_eq!(read(&asked), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = read(&bytes);
        }
    }
}
