//! A machine's address while it is up: rtnetlink(7) on the one interface of the machines.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLM_REQUEST_ACK: u16 = 0x0001 | 0x0004;
const NLM_CREATE_REPLACE: u16 = 0x0400 | 0x0100;
const NLMSG_ERROR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// The interface; its namespace is that of the thread that opened it.
pub struct Interface {
    netlink: OwnedFd,
    index: u32,
}

impl Interface {
    pub fn open(name: &str) -> io::Result<Interface> {
        let index = nix::net::if_::if_nametoindex(name)?;
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Interface { netlink, index })
    }

    fn call(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.netlink.as_raw_fd(), bytes, MsgFlags::empty())?;
        let mut buffer = [0u8; 1024];
        let len = recv(self.netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        answer(&buffer[..len])
    }

    /// The address stands until what is given back is dropped.
    pub fn up(self: &Arc<Self>, address: Ipv4Addr) -> io::Result<Address> {
        self.call(&message(RTM_NEWADDR, NLM_CREATE_REPLACE, self.index, address))?;
        Ok(Address { interface: self.clone(), address })
    }
}

/// An address that is there. A machine without power has none.
pub struct Address {
    interface: Arc<Interface>,
    pub address: Ipv4Addr,
}

impl Drop for Address {
    fn drop(&mut self) {
        let bytes = message(RTM_DELADDR, 0, self.interface.index, self.address);
        if let Err(error) = self.interface.call(&bytes) {
            eprintln!("take the address {} away: {error}", self.address);
        }
    }
}

/// One address, /32: no other one of the interface depends on it.
fn message(kind: u16, flags: u16, index: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut payload = vec![libc::AF_INET as u8, 32, 0, 0];
    payload.extend(index.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        payload.extend(8u16.to_ne_bytes());
        payload.extend(attribute.to_ne_bytes());
        payload.extend(address.octets());
    }
    let mut out = Vec::with_capacity(16 + payload.len());
    out.extend((16 + payload.len() as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_REQUEST_ACK | flags).to_ne_bytes());
    out.extend(1u32.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.extend(payload);
    out
}

fn answer(bytes: &[u8]) -> io::Result<()> {
    let kind = bytes.get(4..6).and_then(|part| part.try_into().ok()).map(u16::from_ne_bytes);
    let code = bytes.get(16..20).and_then(|part| part.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_an_address_and_gives_it_up_again() {
        let address = Ipv4Addr::new(10, 255, 254, 253);
        let bytes = message(RTM_NEWADDR, NLM_CREATE_REPLACE, 7, address);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
        // A namespace of this thread alone; its loopback interface is there and down.
        if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("SKIPPED: no network namespace can be made");
            return;
        }
        let there = || {
            nix::ifaddrs::getifaddrs()
                .unwrap()
                .filter_map(|a| Some(a.address?.as_sockaddr_in()?.ip()))
                .any(|a| a == address)
        };
        let interface = Arc::new(Interface::open("lo").unwrap());
        let up = interface.up(address).unwrap();
        assert!(there());
        drop(up);
        assert!(!there());
        assert!(interface.call(&message(RTM_DELADDR, 0, interface.index, address)).is_err(), "it is gone already");
    }
}
