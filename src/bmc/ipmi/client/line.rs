//! A socket and the session on it: packets out and in until something is known.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

use crate::bmc::ipmi::{
    Fault, Suite,
    rakp::Privilege,
    rmcp::MAX_PACKET_BYTES,
    session::{Event, Login, Outcome, Session},
};

/// Of host names in endpoints.
pub(super) const RESOLVE: Duration = Duration::from_secs(5);

pub(super) struct Line {
    pub host: String,
    pub opened: Option<(Suite, Privilege)>,
    socket: UdpSocket,
    session: Session,
    began: Instant,
    used: Instant,
    wake: Option<Duration>,
}

impl Line {
    pub async fn open(host: &str, login: Login) -> Result<Line, Fault> {
        let senseless = |why: String| Fault::Local(format!("{host}: {why}"));
        let found = tokio::time::timeout(RESOLVE, tokio::net::lookup_host(host)).await;
        let found = found.map_err(|_| senseless("its name is not resolved in time".into()))?;
        let address = found.map_err(|e| senseless(e.to_string()))?.next();
        let address = address.ok_or_else(|| senseless("its name has no address".into()))?;
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).await.map_err(|e| senseless(e.to_string()))?;
        socket.connect(address).await.map_err(|e| Fault::NoWay(senseless(e.to_string()).to_string()))?;
        socket.writable().await.map_err(|e| senseless(e.to_string()))?;
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| senseless("no random numbers from the system".into()))?;
        let now = Instant::now();
        let session = Session::new(login, seed);
        let mut line = Line { host: host.to_owned(), opened: None, socket, session, began: now, used: now, wake: None };
        match line.until(Event::Start).await? {
            Outcome::Opened { suite, privilege } => {
                line.opened = Some((suite, privilege));
                Ok(line)
            }
            Outcome::Ended(fault) => Err(fault.unwrap_or(Fault::Closed)),
            _ => Err(Fault::Closed),
        }
    }

    pub fn is_open(&self) -> bool {
        self.session.is_open()
    }
    /// Since the last packet of ours.
    pub fn idle(&self) -> Duration {
        self.used.elapsed()
    }
    pub fn began(&self) -> Instant {
        self.began
    }
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Gives the session an event, and serves it until there is an outcome.
    pub async fn until(&mut self, event: Event<'_>) -> Result<Outcome, Fault> {
        let mut outcomes = self.give(event)?;
        loop {
            // What a console said that nobody reads any more is nobody's.
            if let Some(outcome) = outcomes.into_iter().find(|outcome| !matches!(outcome, Outcome::Sol(_))) {
                return Ok(outcome);
            }
            outcomes = self.serve(None).await?;
        }
    }

    /// One event, and its packets sent. Never waits: a packet for which there is no room is as one that is lost.
    pub fn give(&mut self, event: Event<'_>) -> Result<Vec<Outcome>, Fault> {
        let now = self.now();
        let step = self.session.handle(now, event);
        self.wake = step.wake;
        for packet in step.packets {
            self.used = Instant::now();
            self.send(&packet)?;
        }
        Ok(step.outcomes)
    }

    fn send(&self, packet: &[u8]) -> Result<(), Fault> {
        match self.socket.try_send(packet) {
            Ok(_) => Ok(()),
            Err(error) => self.trouble(&error),
        }
    }

    /// The next packet or deadline; `also` is a deadline of the caller's. Safe to be cancelled.
    pub async fn serve(&mut self, also: Option<Duration>) -> Result<Vec<Outcome>, Fault> {
        let mut buffer = [0u8; MAX_PACKET_BYTES];
        let due = match (self.wake, also) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let tick = async {
            match due {
                Some(due) => sleep_until(self.began + due).await,
                None => std::future::pending().await,
            }
        };
        let received = tokio::select! {
            received = self.socket.recv(&mut buffer) => Some(received),
            () = tick => None,
        };
        match received {
            Some(Ok(count)) => self.give(Event::Datagram(buffer.get(..count).unwrap_or_default())),
            Some(Err(error)) => {
                self.trouble(&error)?;
                Ok(Vec::new())
            }
            None => self.give(Event::Tick),
        }
    }

    /// "Port unreachable" while the session is being opened: nobody is there. Later it is not believed: a BMC that
    /// restarts says it too, and the tries of the request decide.
    fn trouble(&self, error: &std::io::Error) -> Result<(), Fault> {
        if self.opened.is_some() {
            return Ok(());
        }
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => Err(Fault::NoWay("nothing listens on this UDP port".into())),
            std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(Fault::NoWay(error.to_string())),
        }
    }

    /// Ends the session; the BMC is not waited for longer than the log-out's own tries.
    pub async fn close(&mut self) {
        if self.session.is_open() {
            // Whatever comes of it: there is nothing left to be done.
            let _ = self.until(Event::Close).await;
        }
    }
}

/// Cut off by ^C or a deadline: the farewell is sent without waiting.
impl Drop for Line {
    fn drop(&mut self) {
        if let Some(packet) = self.session.farewell() {
            let _ = self.socket.try_send(&packet);
        }
    }
}
