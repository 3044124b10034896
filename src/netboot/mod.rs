//! Network boot: DHCP, TFTP, HTTP and IPv6 router advertisements for the machines of one run.
//!
//! The servers live in a child process (`child`), started by `servers`. The child is told a [`BootTable`] and answers
//! only the machines in it; each new table replaces the old one whole. What is seen comes back as
//! [`NetbootEvent`](crate::model::boot::NetbootEvent). The pair of sockets is the child's life: when it closes, the
//! process ends and with it every port.
//!
//! Pure: `dhcp` (packet → reply and where it goes), `frame`, `ra`, `ipxe`, `cpio`, `http::route`, `rogue::read_offer`.
//! I/O: `dhcp::socket`, `packet_socket`, `dhcp::serve`, `tftp`, `http::serve`, `live`, `child`, `servers`.
//!
//! [`BootTable`]: crate::model::boot::BootTable

pub mod child;
pub mod cpio;
pub mod dhcp;
pub mod events;
pub mod frame;
pub mod http;
pub mod ipxe;
pub mod live;
pub mod packet_socket;
pub mod ports;
pub mod privileges;
pub mod ra;
pub mod rogue;
pub mod servers;
pub mod tftp;
