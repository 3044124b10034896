//! Stands between a store and its etcd, loses answers, and brings requests late.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

pub struct Proxy {
    pub port: u16,
    to: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    losing: AtomicU32,
    passing: AtomicU32,
    holding: AtomicU32,
    lost: AtomicU32,
    closed: AtomicBool,
    held: Mutex<Vec<Vec<u8>>>,
}

/// For [`Proxy::lose`]: all of them.
pub const ALL: u32 = u32::MAX;

impl Proxy {
    pub fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state: Arc<State> = Arc::default();
        let proxy = Proxy { port: listener.local_addr().unwrap().port(), to: port, state: Arc::clone(&state) };
        thread::spawn(move || {
            for client in listener.incoming() {
                if state.closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { continue };
                let armed = Arc::new(AtomicBool::new(false));
                let answers = (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&armed));
                let (here, there) = (Arc::clone(&state), Arc::clone(&state));
                thread::spawn(move || requests(client, server, &armed, &here));
                thread::spawn(move || relay_answers(answers.0, answers.1, &answers.2, &there));
            }
        });
        proxy
    }

    /// The next so many writes are kept, and their senders cut off.
    pub fn hold_back(&self, writes: u32) {
        self.state.holding.store(writes, Ordering::SeqCst);
    }

    /// Brings what was kept to the server now; gives how many there were.
    pub fn bring_late(&self) -> usize {
        let held = std::mem::take(&mut *self.state.held.lock().unwrap());
        for request in &held {
            let mut server = TcpStream::connect(("127.0.0.1", self.to)).unwrap();
            server.write_all(request).unwrap();
            // The first bytes of the answer: it has been carried out, or refused.
            assert!(server.read(&mut [0; 4096]).unwrap() > 0);
        }
        held.len()
    }

    /// After `pass` more writes, the answers to the next `lose` are lost. Their requests come through.
    pub fn lose(&self, pass: u32, lose: u32) {
        self.state.passing.store(pass, Ordering::SeqCst);
        self.state.losing.store(lose, Ordering::SeqCst);
    }

    /// How many answers were lost since the last call.
    pub fn lost(&self) -> u32 {
        self.state.lost.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Takes one from a counter that is not used up.
fn take(counter: &AtomicU32) -> bool {
    let less = |n: u32| if n == ALL { Some(ALL) } else { n.checked_sub(1) };
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

fn requests(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool, state: &State) {
    let mut buffer = [0; 65536];
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..n]);
        // One request after the other on each connection; a write is known by its body.
        if !whole(&seen) {
            continue;
        }
        let write = seen.starts_with(b"POST /v3/kv/txn") && contains(&seen, b"request_put")
            || seen.starts_with(b"POST /v3/lease/grant");
        if write && take(&state.holding) {
            state.held.lock().unwrap().push(seen);
            break;
        }
        if write && !take(&state.passing) && take(&state.losing) {
            armed.store(true, Ordering::SeqCst);
        }
        if server.write_all(&seen).is_err() {
            break;
        }
        seen.clear();
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

fn relay_answers(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool, state: &State) {
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        if armed.load(Ordering::SeqCst) {
            state.lost.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

/// Head and body by `content-length`.
fn whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|n| n.trim().parse::<usize>().ok())
        .unwrap_or(0);
    request.len() >= end + 4 + length
}
