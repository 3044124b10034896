//! Stands between a store and its etcd, and loses answers.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

pub struct Proxy {
    pub port: u16,
    losing: Arc<AtomicU32>,
    passing: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
    closed: Arc<AtomicBool>,
}

/// For [`Proxy::lose`]: all of them.
pub const ALL: u32 = u32::MAX;

impl Proxy {
    pub fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            losing: Arc::default(),
            passing: Arc::default(),
            lost: Arc::default(),
            closed: Arc::default(),
        };
        let (losing, passing, lost) = (Arc::clone(&proxy.losing), Arc::clone(&proxy.passing), Arc::clone(&proxy.lost));
        let closed = Arc::clone(&proxy.closed);
        thread::spawn(move || {
            for client in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port))) else { continue };
                let armed = Arc::new(AtomicBool::new(false));
                let answers = (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&armed));
                let (losing, passing, lost) = (Arc::clone(&losing), Arc::clone(&passing), Arc::clone(&lost));
                thread::spawn(move || requests(client, server, &armed, &losing, &passing));
                thread::spawn(move || relay_answers(answers.0, answers.1, &answers.2, &lost));
            }
        });
        proxy
    }

    /// After `pass` more writes, the answers to the next `lose` are lost. Their requests come through.
    pub fn lose(&self, pass: u32, lose: u32) {
        self.passing.store(pass, Ordering::SeqCst);
        self.losing.store(lose, Ordering::SeqCst);
    }

    /// How many answers were lost since the last call.
    pub fn lost(&self) -> u32 {
        self.lost.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Takes one from a counter that is not used up.
fn take(counter: &AtomicU32) -> bool {
    let less = |n: u32| if n == ALL { Some(ALL) } else { n.checked_sub(1) };
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

fn requests(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool, losing: &AtomicU32, passing: &AtomicU32) {
    let mut buffer = [0; 65536];
    let mut seen: Vec<u8> = Vec::new();
    loop {
        let Ok(n @ 1..) = client.read(&mut buffer) else { break };
        seen.extend_from_slice(&buffer[..n]);
        // One request after the other on each connection; a write is known by its body.
        if whole(&seen) {
            let write = seen.starts_with(b"POST /v3/kv/txn") && contains(&seen, b"request_put")
                || seen.starts_with(b"POST /v3/lease/grant");
            if write && !take(passing) && take(losing) {
                armed.store(true, Ordering::SeqCst);
            }
            seen.clear();
        }
        if server.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

fn relay_answers(mut client: TcpStream, mut server: TcpStream, armed: &AtomicBool, lost: &AtomicU32) {
    let mut buffer = [0; 65536];
    loop {
        let Ok(n @ 1..) = server.read(&mut buffer) else { break };
        if armed.load(Ordering::SeqCst) {
            lost.fetch_add(1, Ordering::SeqCst);
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
