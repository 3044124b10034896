//! TFTP, read only: the loaders of the table and nothing else, to the table's machines.
//!
//! `async-tftp` (RFC 1350, 2347–2349, 7440) over objects in memory. It brings an executor of its own and runs in a
//! thread of its own. Every name that is no loader gets a clean "file not found", which shim, GRUB and U-Boot expect.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_tftp::{
    packet::Error as Refusal,
    server::{Handler, TftpServer, TftpServerBuilder},
};
use bytes::Bytes;
use futures_io::AsyncRead;
use socket2::{Domain, Protocol, Socket, Type};

use super::{events::Events, live::Current};
use crate::model::boot::NetbootEvent;

pub const PORT: u16 = 69;
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: u32 = 4;
/// Fits an Ethernet frame: firmware does not reassemble fragments.
const LARGEST_BLOCK: u16 = 1468;
const LARGEST_WINDOW: u16 = 16;
/// Transfers at once, of one machine and of all. UEFI leaves a probe for the size behind before each transfer.
const MOST_OF_ONE: u32 = 8;
const MOST: u32 = 2048;

/// Bound to the interface and its address: replies leave from that address.
pub fn bind(interface: &str, server: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(server, PORT).into())?;
    Ok(socket.into())
}

/// Serves until the process ends; returns only on a fault. Blocks its thread.
pub fn run(socket: UdpSocket, current: Current, events: Events) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let loaders = Loaders { current, events, busy: Arc::default() };
        let builder = TftpServerBuilder::with_handler(loaders).std_socket(socket).map_err(io::Error::other)?;
        let server: TftpServer<Loaders> = builder
            .timeout(TIMEOUT)
            // U-Boot asks for five seconds; a lost packet would cost as much.
            .ignore_client_timeout()
            .max_send_retries(RETRIES)
            .block_size_limit(LARGEST_BLOCK)
            .window_size_limit(LARGEST_WINDOW)
            .build()
            .await
            .map_err(io::Error::other)?;
        server.serve().await.map_err(io::Error::other)
    })
}

type Busy = Arc<Mutex<HashMap<Ipv4Addr, u32>>>;

struct Loaders {
    current: Current,
    events: Events,
    busy: Busy,
}

impl Loaders {
    fn open(&self, client: &SocketAddr, path: &Path) -> Result<Transfer, (Refusal, String)> {
        let live = self.current.get();
        let SocketAddr::V4(client) = client else {
            return Err((Refusal::PermissionDenied, "not an IPv4 client".to_owned()));
        };
        let address = *client.ip();
        if live.machine_at(address).is_none() {
            return Err((Refusal::PermissionDenied, "not the address of a machine of this run".to_owned()));
        }
        let name = clean(path);
        let asked = name.strip_prefix('/').unwrap_or(&name);
        let Some(object) = live.tftp_object(asked) else {
            return Err((Refusal::FileNotFound, "no loader has this name".to_owned()));
        };
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.values().sum::<u32>() >= MOST || busy.get(&address).is_some_and(|n| *n >= MOST_OF_ONE) {
            return Err((Refusal::Msg("too many transfers, try again".to_owned()), "too many transfers".to_owned()));
        }
        *busy.entry(address).or_default() += 1;
        drop(busy);
        Ok(Transfer {
            bytes: object.bytes.clone(),
            at: 0,
            address,
            name: asked.to_owned(),
            events: self.events.clone(),
            busy: Arc::clone(&self.busy),
        })
    }
}

impl Handler for Loaders {
    type Reader = Transfer;
    type Writer = Vec<u8>;

    async fn read_req_open(&mut self, client: &SocketAddr, path: &Path) -> Result<(Transfer, Option<u64>), Refusal> {
        match self.open(client, path) {
            Ok(transfer) => {
                let size = transfer.bytes.len() as u64;
                Ok((transfer, Some(size)))
            }
            Err((refusal, reason)) => {
                self.refused(client, path, reason);
                Err(refusal)
            }
        }
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> Result<Self::Writer, Refusal> {
        self.refused(client, path, "nothing can be written here".to_owned());
        Err(Refusal::PermissionDenied)
    }
}

impl Loaders {
    fn refused(&self, client: &SocketAddr, path: &Path, reason: String) {
        if let SocketAddr::V4(client) = client {
            let name = clean(path);
            self.events.tell(NetbootEvent::TftpRefused { address: *client.ip(), name, reason });
        }
    }
}

/// A name as it may be shown: printable ASCII, bounded.
fn clean(path: &Path) -> String {
    path.to_string_lossy().chars().take(128).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// One reader of an object. Says at its end how far it came.
pub struct Transfer {
    bytes: Bytes,
    at: usize,
    address: Ipv4Addr,
    name: String,
    events: Events,
    busy: Busy,
}

impl AsyncRead for Transfer {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Poll::Ready(Ok(len))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = busy.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.address);
            }
        }
        drop(busy);
        // Less than the whole is a probe for the size, or a machine that went away.
        if self.at == self.bytes.len() {
            let name = std::mem::take(&mut self.name);
            self.events.tell(NetbootEvent::TftpSent { address: self.address, name, bytes: self.at as u64 });
        }
    }
}
