//! The listener: connections, their limits, and bodies that say when they have been sent.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;

use super::{Answer, Tagged, route};
use crate::{
    model::boot::NetbootEvent,
    netboot::{events::Events, live::Current},
};

/// Connections at once, of all machines.
const CONNECTIONS: usize = 2048;
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 16 << 10;
/// A machine that reads nothing for longer than the longest download is gone. 1 GB at 1 MB/s ends well within.
const CONNECTION_AT_MOST: Duration = Duration::from_secs(3600);
/// A body is handed on in pieces of this size, so that what was sent is known.
const PIECE: usize = 256 << 10;
const WORKERS: usize = 2;

/// Serves until the process ends. Blocks its thread.
pub fn run(listener: TcpListener, current: Current, events: Events) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return Ok(()) };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client that left in the queue: neither may end the server.
                    events.ignored(None, format!("HTTP: a connection could not be taken: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let SocketAddr::V4(peer) = peer else { continue };
            let (current, events) = (current.clone(), events.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let service = service_fn(move |request: Request<Incoming>| {
                    let response = respond(&current, &events, *peer.ip(), &request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADERS_WITHIN)
                    .max_headers(HEADERS)
                    .max_buf_size(HEADER_BYTES)
                    .serve_connection(TokioIo::new(stream), service);
                // A broken connection is the client's to repeat; its body has told how much was sent.
                let _ = tokio::time::timeout(CONNECTION_AT_MOST, connection).await;
                drop(slot);
            });
        }
    })
}

fn respond(current: &Current, events: &Events, peer: Ipv4Addr, request: &Request<Incoming>) -> Response<Sent> {
    let live = current.get();
    let answer = route(&live, peer, request.method(), request.uri().path(), request.headers());
    let head = request.method() == hyper::Method::HEAD;
    response(answer, head, events, peer)
}

fn response(answer: Answer, head: bool, events: &Events, peer: Ipv4Addr) -> Response<Sent> {
    let Answer { status, content_type, body, object, event } = answer;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let length = body.len() as u64;
    if status != hyper::StatusCode::NOT_MODIFIED {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    match &object {
        Some(Tagged { sha256, range, total }) => {
            for (name, value) in [
                (header::ETAG, Some(format!("\"{sha256}\""))),
                (header::CONTENT_RANGE, content_range(status, *range, *total)),
            ] {
                if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                    headers.insert(name, value);
                }
            }
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        }
        None => {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    let sends = !head && status.is_success();
    let told = match object.filter(|_| sends) {
        Some(object) => Some(Told::Object { sha256: object.sha256, address: peer, total: object.total }),
        None => event.map(Told::Once),
    };
    let rest = if head { Bytes::new() } else { body };
    response.map(|()| Sent { rest, sent: 0, told, events: events.clone() })
}

fn content_range(status: hyper::StatusCode, range: Option<(u64, u64)>, total: u64) -> Option<String> {
    match range {
        Some((first, last)) => Some(format!("bytes {first}-{last}/{total}")),
        None if status == hyper::StatusCode::RANGE_NOT_SATISFIABLE => Some(format!("bytes */{total}")),
        None => None,
    }
}

enum Told {
    Once(NetbootEvent),
    Object { sha256: String, address: Ipv4Addr, total: u64 },
}

/// A body in memory that reports when it is done with, whole or not.
struct Sent {
    rest: Bytes,
    sent: u64,
    told: Option<Told>,
    events: Events,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(len);
        self.sent += len as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        match self.told.take() {
            None => {}
            Some(Told::Once(event)) if self.rest.is_empty() => self.events.tell(event),
            Some(Told::Once(_)) => {}
            Some(Told::Object { sha256, address, total }) => {
                let whole = self.sent == total;
                self.events.tell(NetbootEvent::ObjectServed { address, sha256, bytes: self.sent, whole });
            }
        }
    }
}

/// Binds the address alone, not every address of the host.
pub fn bind(interface: &str, server: Ipv4Addr, port: u16) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(server), port).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
