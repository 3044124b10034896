//! The socket, and the serial console behind it.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UdpSocket, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    Service,
    sessions::{Arrived, Lies, Numbers},
};
use crate::{
    bmc::ipmi::{
        bytes::Reader,
        completion::Completion,
        message::{Message, function},
        rmcp::{self, MAX_PACKET_BYTES, Packet as Outer, Payload},
        sol::{Channel, DEACTIVATING, Packet, Progress},
    },
    lab::bmc::{Fault, chassis::Chassis},
};

/// Data of one packet of the console.
const CHUNK: u16 = 128;
/// Pieces that the machine or the operator may be ahead.
const AHEAD: usize = 64;
/// A machine that is off has no console: how soon one that went on is noticed.
const RETRY: Duration = Duration::from_millis(200);

/// Serves until `shutdown` is there. `console`: the machine's serial port, a Unix socket that is there while it is on.
pub async fn serve<C: Chassis>(
    socket: UdpSocket,
    service: Arc<Service<C>>,
    console: Option<PathBuf>,
    shutdown: impl Future<Output = ()> + Send,
) {
    tokio::pin!(shutdown);
    let mut server = Server { socket, service, console, line: None };
    let mut buffer = [0u8; MAX_PACKET_BYTES];
    loop {
        let wake = server.line.as_ref().and_then(|line| line.channel.wake());
        let began = server.service.began;
        let tick = async {
            match wake {
                Some(due) => sleep_until(Instant::from_std(began + due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut shutdown => return,
            received = server.socket.recv_from(&mut buffer) => match received {
                Ok((count, from)) => server.packet(buffer.get(..count).unwrap_or_default(), from).await,
                // A peer's port that is closed: the next packet is another's.
                Err(_) => tokio::task::yield_now().await,
            },
            said = said(&mut server.line) => server.said(&said).await,
            () = tick => server.tick().await,
        }
    }
}

struct Server<C> {
    socket: UdpSocket,
    service: Arc<Service<C>>,
    console: Option<PathBuf>,
    line: Option<Line>,
}

/// The console in use.
struct Line {
    session: u32,
    peer: SocketAddr,
    channel: Channel,
    typed: mpsc::Sender<Vec<u8>>,
    said: mpsc::Receiver<Vec<u8>>,
    bridge: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bridge.abort();
    }
}

async fn said(line: &mut Option<Line>) -> Vec<u8> {
    let Some(line) = line else { return std::future::pending().await };
    match line.said.recv().await {
        Some(bytes) => bytes,
        None => std::future::pending().await,
    }
}

/// Between the queues and the machine's serial port, over its restarts.
async fn bridge(path: PathBuf, mut typed: mpsc::Receiver<Vec<u8>>, said: mpsc::Sender<Vec<u8>>) {
    loop {
        let Ok(mut stream) = UnixStream::connect(&path).await else {
            // What is typed at a machine that is off goes nowhere.
            while typed.try_recv().is_ok() {}
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let mut buffer = vec![0u8; 4096];
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(count) if count > 0 => {
                        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                        if said.send(bytes).await.is_err() {
                            return;
                        }
                    }
                    _ => break,
                },
                bytes = typed.recv() => match bytes {
                    Some(bytes) => if stream.write_all(&bytes).await.is_err() { break },
                    None => return,
                },
            }
        }
    }
}

impl<C: Chassis> Service<C> {
    /// A packet arrives. `None`: as if it had not; else what its sessions lie about.
    fn heard(&self, bytes: &[u8]) -> Option<Lies> {
        let number = {
            let mut inside = self.inside();
            inside.packets += 1;
            inside.packets
        };
        let faults = self.bmc.now_faults();
        let packet = rmcp::parse(bytes);
        let plus = match &packet {
            Ok(Outer::Plus(plus)) => Some(plus.kind),
            _ => None,
        };
        let lost = faults.count(Fault::IpmiDrop).is_some_and(|n| n > 0 && number % n == 0);
        if lost || faults.has(Fault::IpmiOff) || (faults.has(Fault::IpmiOld) && plus.is_some()) {
            return None;
        }
        Some(Lies {
            mute: faults.text(Fault::IpmiMute).map(|word| match word {
                "open" => Payload::OpenResponse,
                "rakp4" => Payload::Rakp4,
                _ => Payload::Rakp2,
            }),
            no_room: plus == Some(Payload::OpenRequest) && self.bmc.state().spend(Fault::IpmiNoRoom),
            numbers: match faults.text(Fault::IpmiSequence) {
                Some("swapped") => Numbers::Swapped,
                Some(_) => Numbers::Same,
                None => Numbers::Counted,
            },
            drop_after: faults.count(Fault::IpmiSessionDrop),
        })
    }
}

impl<C: Chassis> Server<C> {
    async fn packet(&mut self, bytes: &[u8], from: SocketAddr) {
        let Some(lies) = self.service.heard(bytes) else { return };
        if let Some(time) = self.service.bmc.now_faults().time(Fault::IpmiSlow) {
            tokio::time::sleep(time).await;
        }
        let (offers, limit, now) = (self.service.offers(), self.service.limit(), self.service.now());
        let arrived = {
            let mut inside = self.service.inside();
            inside.sessions.lies = lies;
            let arrived = inside.sessions.receive(now, bytes, offers, limit, |name| self.service.look_up(name));
            let proven = inside.sessions.proven.take();
            drop(inside);
            if let Some((name, right)) = proven {
                self.service.proven(&name, right);
            }
            arrived
        };
        match arrived {
            Arrived::Nothing => {}
            Arrived::Reply(packet) => self.send(&packet, from).await,
            Arrived::Bare(message) => {
                if let Some(answer) = self.service.bare(&message).await {
                    self.send(&crate::bmc::ipmi::rmcp::bare(&answer.encode()), from).await;
                }
            }
            Arrived::Request { session, message } => self.request(session, &message, from).await,
            Arrived::Sol { session, payload } => {
                let Some(line) = self.line.as_mut().filter(|line| line.session == session) else { return };
                line.peer = from;
                let mut progress = Progress::default();
                line.channel.received(now, &payload, &mut progress);
                // Full: what the machine does not read is lost, as on a real line.
                if !progress.data.is_empty() {
                    let _ = line.typed.try_send(std::mem::take(&mut progress.data));
                }
                self.out(progress).await;
            }
        }
    }

    async fn request(&mut self, session: u32, message: &Message, from: SocketAddr) {
        let done = match (message.function, message.command) {
            (function::APP, 0x48 | 0x49) => self.payload(session, message, from).await,
            _ => {
                let done = self.service.answer(session, message).await;
                if done.lost {
                    return;
                }
                if let Some(id) = done.ends {
                    let packet = self.reply(session, message, done.code, &done.data);
                    self.service.inside().sessions.close(id);
                    if self.line.as_ref().is_some_and(|line| line.session == id) {
                        self.line = None;
                    }
                    if let Some(packet) = packet {
                        self.send(&packet, from).await;
                    }
                    return;
                }
                (done.code, done.data)
            }
        };
        if let Some(packet) = self.reply(session, message, done.0, &done.1) {
            self.send(&packet, from).await;
        }
    }

    fn reply(&self, session: u32, message: &Message, code: Completion, data: &[u8]) -> Option<Vec<u8>> {
        let answer = message.answer(code.0, data);
        self.service.inside().sessions.reply(session, message, &answer)
    }

    /// Activate and Deactivate Payload (24.1, 24.2) of serial over LAN, instance 1.
    async fn payload(&mut self, session: u32, message: &Message, from: SocketAddr) -> (Completion, Vec<u8>) {
        let refuse = |code| (Completion(code), Vec::new());
        let Ok([kind, instance]) = Reader::new(&message.data).array("payload") else {
            return (Completion::LENGTH, Vec::new());
        };
        if kind & 0x3F != 1 || instance & 0x0F != 1 {
            return (Completion::INVALID_FIELD, Vec::new());
        }
        let is_used = {
            let mut inside = self.service.inside();
            self.line.as_ref().is_some_and(|line| inside.sessions.get(line.session).is_some())
        };
        if message.command == 0x49 {
            if !is_used {
                return refuse(0x80);
            }
            // Whoever has it is told that it ends.
            let end = Packet { sequence: 0, acknowledged: 0, accepted: 0, control: DEACTIVATING, data: Vec::new() };
            if let Some(line) = self.line.take().filter(|line| line.session != session) {
                let packet = self.service.inside().sessions.seal(line.session, Payload::Sol, &end.encode());
                if let Some(packet) = packet {
                    self.send(&packet, line.peer).await;
                }
            }
            return (Completion::OK, Vec::new());
        }
        let Some(path) = self.console.clone() else { return refuse(0x81) };
        if is_used {
            return refuse(0x80);
        }
        let (typed, from_operator) = mpsc::channel(AHEAD);
        let (to_operator, said) = mpsc::channel(AHEAD);
        let bridge = tokio::spawn(bridge(path, from_operator, to_operator));
        let channel = Channel::new(usize::from(CHUNK));
        self.line = Some(Line { session, peer: from, channel, typed, said, bridge });
        let port = self.socket.local_addr().map_or(0, |at| at.port());
        let mut data = vec![0; 4];
        data.extend((CHUNK + 4).to_le_bytes());
        data.extend((CHUNK + 4).to_le_bytes());
        data.extend(port.to_le_bytes());
        data.extend([0xFF, 0xFF]);
        (Completion::OK, data)
    }

    async fn said(&mut self, bytes: &[u8]) {
        let now = self.service.now();
        let Some(line) = self.line.as_mut() else { return };
        let mut progress = Progress::default();
        line.channel.send(now, bytes, &mut progress);
        self.out(progress).await;
    }

    async fn tick(&mut self) {
        let now = self.service.now();
        let Some(line) = self.line.as_mut() else { return };
        let mut progress = Progress::default();
        line.channel.tick(now, &mut progress);
        self.out(progress).await;
    }

    async fn out(&mut self, progress: Progress) {
        let Some(line) = self.line.as_ref() else { return };
        let (session, peer) = (line.session, line.peer);
        if progress.silent {
            self.line = None;
            return;
        }
        for payload in &progress.payloads {
            let packet = self.service.inside().sessions.seal(session, Payload::Sol, payload);
            if let Some(packet) = packet {
                self.send(&packet, peer).await;
            }
        }
    }

    async fn send(&self, packet: &[u8], to: SocketAddr) {
        // A packet that is lost is asked for again.
        let _ = self.socket.send_to(packet, to).await;
    }
}
