//! The UDP driver: one socket, one session and one request at a time per BMC, everything read back.

mod act;
mod console;
mod line;
mod look;
mod presence;
mod restart;

use std::{sync::Arc, time::Duration};

pub use console::{Console, Heard};
pub use look::MAX_ENTRIES;
pub use presence::{Present, presence};

use super::{
    Fault,
    message::{Command, Effect},
    session::{self, Event, Outcome},
    tool,
    tool_exec::Tool,
};
use crate::{
    bmc::client::{Leave, Login, Observer, Options, RequestLine},
    model::{Failure, failure::Cause, lease::Gate},
};
use line::Line;

/// A session that was not used for so long is opened anew: BMCs drop one after 60 s (6.12.15).
const IDLE: Duration = Duration::from_secs(45);
/// How often "busy" is believed, and what is waited in between.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

pub struct Client {
    node: String,
    endpoint: String,
    login: session::Login,
    user: String,
    deadline: Duration,
    read_only: bool,
    gate: Option<Arc<Gate>>,
    observer: Option<Observer>,
    leave: Option<Leave>,
    /// Why `ipmitool` drives it.
    detour: Option<String>,
    line: tokio::sync::Mutex<Route>,
}

/// How commands reach the BMC.
enum Route {
    Session(Box<Line>),
    Tool(Tool),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ipmi::Client({} at {})", self.node, self.endpoint)
    }
}

impl Client {
    /// Logs in at `host` (`ADDRESS:PORT`). Nothing is told to the ledger: a session that is left open ends by itself
    /// after a minute, and the next log-in needs no room of it.
    pub async fn open(node: &str, host: &str, login: &Login, options: &Options) -> Result<Client, Failure> {
        let what = || format!("{node}: log in at its BMC over IPMI");
        let fail = |fault: Fault| Failure::new(fault.cause(), what(), fault.to_string());
        let entry = session::Login::new(&login.username, login.password.clone()).map_err(fail)?;
        let opening = Route::open(host, entry.clone(), login);
        let late = || {
            let why = format!("not done within {} s", options.deadline.as_secs_f32());
            Failure::new(Cause::Deadline, what(), why)
        };
        let opened = tokio::time::timeout(options.deadline, opening).await.map_err(|_| late())?;
        let (line, detour) = opened.map_err(|fault| refused(fail(fault), &login.username))?;
        Ok(Client {
            node: node.to_owned(),
            endpoint: format!("ipmi://{host}"),
            login: entry,
            user: login.username.clone(),
            deadline: options.deadline,
            read_only: options.read_only,
            gate: options.gate.clone(),
            observer: options.observer.clone(),
            leave: None,
            detour,
            line: tokio::sync::Mutex::new(line),
        })
    }

    /// Whether IPMI can carry this name and this password. Nothing is sent.
    ///
    /// # Errors
    /// `Guard`: one of them is too long.
    pub fn carries(node: &str, login: &Login) -> Result<(), Failure> {
        let carried = session::Login::new(&login.username, login.password.clone());
        carried.map(drop).map_err(|fault| not_entered(node, &fault))
    }

    /// Whether somebody answers at `host`; no credential is sent.
    ///
    /// # Errors
    /// Nobody does: `Unreachable`. As [`Client::carries`].
    pub async fn greet(node: &str, host: &str, login: &Login) -> Result<(), Failure> {
        Client::carries(node, login)?;
        presence::greet(host).await.map_err(|fault| not_entered(node, &fault))
    }

    /// From now on `leave` is asked before the machine is taken away.
    pub fn asking_first(self, leave: Leave) -> Client {
        Client { leave: Some(leave), ..self }
    }

    pub fn node(&self) -> &str {
        &self.node
    }
    /// `ipmi://HOST:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Why it is not driven in process, but by `ipmitool`; `None`: it is.
    pub fn detour(&self) -> Option<&str> {
        self.detour.as_deref()
    }

    /// Closes the session. Call it on every way out; a client that is dropped without it sends its farewell and does not
    /// wait for the answer.
    pub async fn close(self) -> Result<(), Failure> {
        if let Route::Session(line) = &mut *self.line.lock().await {
            line.close().await;
        }
        Ok(())
    }

    /// Cipher suite and privilege of the session; `None` where `ipmitool` drives it.
    pub async fn session(&self) -> Option<(super::Suite, super::rakp::Privilege)> {
        match &*self.line.lock().await {
            Route::Session(line) => line.opened,
            Route::Tool(_) => None,
        }
    }

    pub(super) fn what(&self, doing: &str) -> String {
        format!("{}: {doing}", self.node)
    }

    pub(super) fn failure(&self, doing: &str, fault: Fault) -> Failure {
        refused(Failure::new(fault.cause(), self.what(doing), fault.to_string()), &self.user)
    }

    /// One command and its answer, without the completion code. A session that has ended is opened again, once; what
    /// acts is not sent again.
    pub(super) async fn ask(&self, command: &Command) -> Result<Vec<u8>, Fail> {
        let what = || self.what(command.name);
        let reads = command.effect == Effect::Reads;
        if self.read_only && !reads {
            let why = "this run may only read: the command was not sent";
            return Err(Fail::Ours(Failure::new(Cause::Guard, what(), why)));
        }
        let mut route = self.line.lock().await;
        let (mut entered, mut busy) = (false, 0);
        loop {
            if let Route::Session(line) = &mut *route
                && (!line.is_open() || line.idle() > IDLE)
            {
                entered = true;
                let host = line.host.clone();
                line.close().await;
                **line = Line::open(&host, self.login.clone()).await.map_err(Fail::Bmc)?;
            }
            // The last moment before it leaves.
            if let Some(gate) = self.gate.as_ref().filter(|_| !reads) {
                gate.check(&what()).map_err(Fail::Ours)?;
            }
            let started = tokio::time::Instant::now();
            let result = route.once(command).await;
            if let Some(observer) = &self.observer {
                observer(&RequestLine {
                    node: self.node.clone(),
                    method: "IPMI".to_owned(),
                    path: command.name.to_owned(),
                    status: match &result {
                        Ok(_) => Some(0),
                        Err(fault) => fault.code().map(u16::from),
                    },
                    took: started.elapsed(),
                });
            }
            match result {
                Err(Fault::Completed(code)) if code.is_busy() && busy < BUSY_TRIES => {
                    busy += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(Fault::Dropped(_) | Fault::Closed) if !entered && command.effect != Effect::Acts => {}
                result => return result.map_err(Fail::Bmc),
            }
        }
    }

    pub(super) async fn get(&self, command: &Command) -> Result<Vec<u8>, Failure> {
        self.ask(command).await.map_err(|fail| self.told(command.name, fail))
    }

    pub(super) fn told(&self, doing: &str, fail: Fail) -> Failure {
        match fail {
            Fail::Bmc(fault) => self.failure(doing, fault),
            Fail::Ours(failure) => failure,
        }
    }

    /// Under the deadline of one call.
    pub(super) async fn limited<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = |_| {
            let why = format!("not done within {} s", self.deadline.as_secs_f32());
            Err(Failure::new(Cause::Deadline, self.what(doing), why))
        };
        tokio::time::timeout(self.deadline, work).await.unwrap_or_else(late)
    }
}

impl Route {
    /// In process; by `ipmitool` only where the handshake fails for a reason that another implementation may not have.
    async fn open(host: &str, entry: session::Login, login: &Login) -> Result<(Route, Option<String>), Fault> {
        let fault = match Line::open(host, entry).await {
            Ok(line) => return Ok((Route::Session(Box::new(line)), None)),
            Err(fault) if !tool::may_help(&fault) => return Err(fault),
            Err(fault) => fault,
        };
        let found = Tool::open(tool::PROGRAM.into(), host, &login.username, login.password.clone()).await;
        found.map(|tool| (Route::Tool(tool), Some(fault.to_string()))).map_err(|other| match other {
            refused @ (Fault::WrongPassword | Fault::LoginRefused(_)) => refused,
            other => Fault::NoWay(format!("{fault}; and by ipmitool: {other}")),
        })
    }

    async fn once(&mut self, command: &Command) -> Result<Vec<u8>, Fault> {
        let line = match self {
            Route::Session(line) => line,
            Route::Tool(tool) => return tool.ask(command).await,
        };
        match line.until(Event::Ask(command)).await? {
            Outcome::Answered(result) => result,
            Outcome::Ended(fault) => Err(fault.unwrap_or(Fault::Closed)),
            _ => Err(Fault::Closed),
        }
    }
}

/// Why a command has no answer: what the BMC did, or what a guard of ours forbids.
pub(super) enum Fail {
    Bmc(Fault),
    Ours(Failure),
}

impl Fail {
    /// The BMC answered, and not with success.
    fn is_refusal(&self) -> bool {
        matches!(self, Fail::Bmc(Fault::Completed(_) | Fault::CompletedWith(..)))
    }
}

fn not_entered(node: &str, fault: &Fault) -> Failure {
    Failure::new(fault.cause(), format!("{node}: log in at its BMC over IPMI"), fault.to_string())
}

/// Names the user where the log-in is what failed.
fn refused(failure: Failure, user: &str) -> Failure {
    match failure.cause {
        Cause::Unauthorized => {
            let user = crate::bmc::redfish::json::clean(user);
            Failure { why: format!("user `{user}`: {}", failure.why), ..failure }
        }
        _ => failure,
    }
}
