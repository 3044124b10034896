//! AF_PACKET: whole frames on one interface. Needs CAP_NET_RAW and nothing else.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use super::frame::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::model::Mac;

/// What is let in, checked in the kernel: other traffic costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    Nothing,
    /// IPv4 UDP to port 68.
    DhcpReplies,
    /// ICMPv6 router solicitations, with membership in their multicast group.
    Solicitations,
}

#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: i32,
    pub mac: Mac,
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

use libc::{BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET};

const DROP: libc::sock_filter = op(BPF_RET | BPF_K, 0, 0, 0);
const KEEP: libc::sock_filter = op(BPF_RET | BPF_K, 0, 0, 0xffff);

const DHCP_REPLIES: [libc::sock_filter; 11] = [
    op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 8, ETHERTYPE_IPV4 as u32),
    op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 23),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 17),
    op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 20),
    op(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 0x1fff),
    op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 14),
    op(BPF_LD | BPF_H | BPF_IND, 0, 0, 16),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 68),
    KEEP,
    DROP,
];

const SOLICITATIONS: [libc::sock_filter; 8] = [
    op(BPF_LD | BPF_H | BPF_ABS, 0, 0, 12),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 5, ETHERTYPE_IPV6 as u32),
    op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 20),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 58),
    op(BPF_LD | BPF_B | BPF_ABS, 0, 0, 54),
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 133),
    KEEP,
    DROP,
];

impl PacketSocket {
    pub fn open(interface: &str, receive: Receive) -> io::Result<PacketSocket> {
        // Opened without a protocol, so that nothing arrives before the filter and the interface are set.
        // SAFETY: plain system call; the result is checked before it is owned.
        let raw = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let (index, mac) = describe(&fd, interface)?;
        let (protocol, filter): (u16, &[libc::sock_filter]) = match receive {
            Receive::Nothing => (0, &[]),
            Receive::DhcpReplies => (ETHERTYPE_IPV4, &DHCP_REPLIES),
            Receive::Solicitations => (ETHERTYPE_IPV6, &SOLICITATIONS),
        };
        if !filter.is_empty() {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        }
        if receive == Receive::Solicitations {
            let mut address = [0u8; 8];
            address[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
            let member = libc::packet_mreq {
                mr_ifindex: index,
                mr_type: libc::PACKET_MR_MULTICAST as u16,
                mr_alen: 6,
                mr_address: address,
            };
            set(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &member)?;
        }
        let address = link_address(index, protocol, Mac([0; 6]));
        // SAFETY: `address` is a whole sockaddr_ll and lives through the call.
        check(unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        })?;
        Ok(PacketSocket { fd, index, mac })
    }

    /// Sends a whole frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let to = Mac(frame.get(..6).and_then(|b| b.try_into().ok()).unwrap_or_default());
        let address = link_address(self.index, 0, to);
        // SAFETY: both pointers are valid for the lengths given, for the length of the call.
        let sent = unsafe {
            libc::sendto(
                self.fd.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// One frame, or `None` when the time is up.
    pub fn receive<'a>(&self, buffer: &'a mut [u8], wait: Duration) -> io::Result<Option<&'a [u8]>> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        if check(unsafe { libc::poll(&raw mut poll, 1, wait) })? == 0 {
            return Ok(None);
        }
        // SAFETY: the buffer is writable for its whole length.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(got) {
            Ok(len) => Ok(buffer.get(..len)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// To wait for frames beside other things.
impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a whole T and lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(|_| ())
}

fn link_address(index: i32, protocol: u16, to: Mac) -> libc::sockaddr_ll {
    let mut address = [0u8; 8];
    address[..6].copy_from_slice(&to.0);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    }
}

/// Index and hardware address, by ioctl: `/sys` may show another network namespace.
fn describe(fd: &OwnedFd, interface: &str) -> io::Result<(i32, Mac)> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.is_empty() || interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: `request` is a whole ifreq with a zero-terminated name; the kernel fills the union as the request says.
    unsafe {
        check(libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request))?;
        let index = request.ifr_ifru.ifru_ifindex;
        check(libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request))?;
        let bytes = request.ifr_ifru.ifru_hwaddr.sa_data;
        let mut mac = [0u8; 6];
        for (to, from) in mac.iter_mut().zip(bytes) {
            *to = from as u8;
        }
        Ok((index, Mac(mac)))
    }
}
