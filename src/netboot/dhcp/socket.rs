//! UDP ports of one interface: 67 (and 4011), and the frames for clients without an address.

use std::{
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::{CLIENT_PORT, Destination, SERVER_PORT};
use crate::netboot::{
    frame::{self, End},
    packet_socket::{PacketSocket, Receive},
};

/// Holds a rack's power-on: some 13,000 packets of 600 bytes.
const RECEIVE_BUFFER: usize = 8 << 20;

#[derive(Debug)]
pub struct DhcpSocket {
    udp: UdpSocket,
    raw: PacketSocket,
    server: Ipv4Addr,
    index: u32,
}

impl DhcpSocket {
    /// `port` is 67 or 4011. Bound to the interface alone, for every destination address: requests are broadcast.
    pub fn open(interface: &str, server: Ipv4Addr, port: u16) -> io::Result<DhcpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_broadcast(true)?;
        // Best effort: the kernel caps it (net.core.rmem_max) without saying so.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        let raw = PacketSocket::open(interface, Receive::Nothing)?;
        let index = nix::net::if_::if_nametoindex(interface).map_err(io::Error::from)?;
        Ok(DhcpSocket { udp: socket.into(), raw, server, index })
    }

    /// One packet. Waits at most `wait`.
    pub fn receive<'a>(&self, buffer: &'a mut [u8], wait: Duration) -> io::Result<Option<(&'a [u8], SocketAddrV4)>> {
        self.udp.set_read_timeout(Some(wait))?;
        match self.udp.recv_from(buffer) {
            Ok((len, std::net::SocketAddr::V4(from))) => Ok(buffer.get(..len).map(|packet| (packet, from))),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub fn send(&self, message: &[u8], destination: Destination) -> io::Result<()> {
        let to = match destination {
            Destination::Relay(relay) => SocketAddrV4::new(relay, SERVER_PORT),
            Destination::Client(address) => SocketAddrV4::new(address, CLIENT_PORT),
            Destination::NakBroadcast | Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            Destination::Back(from) => from,
            Destination::Raw { mac, address } => {
                let from = End { mac: self.raw.mac, ip: self.server, port: SERVER_PORT };
                let to = End { mac, ip: address, port: CLIENT_PORT };
                return self.raw.send(&frame::udp(from, to, message));
            }
        };
        // From our address, whatever others the interface has: clients compare it with the server identifier.
        let info = libc::in_pktinfo {
            ipi_ifindex: self.index as i32,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(self.server).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.udp.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(to)),
        )?;
        Ok(())
    }
}
