//! One machine's BMC, whatever it speaks: the first endpoint of the node that answers decides.

mod climb;

use std::time::Duration;

pub use climb::Keep;

use super::{
    client::{self, Leave, Leftover, Login, ManagerFacts, Operation, Options, Passwords},
    ipmi,
    proof::Verdict,
    reset::Wish,
};
use crate::model::{
    Failure,
    facts::BmcFacts,
    failure::Cause,
    fleet::{Endpoint, EndpointAt, Node},
    power::{BootOverride, PowerAction, PowerState},
};

/// An open session at one endpoint.
#[derive(Debug)]
pub(super) enum Way {
    Redfish(Box<client::Client>),
    Ipmi(Box<ipmi::Client>),
}

#[derive(Debug)]
pub struct Client {
    way: Way,
    skipped: Vec<String>,
    spare: Option<climb::Spare>,
}

/// Both ways have it under the same name.
macro_rules! both {
    ($self:expr, $client:ident => $work:expr) => {
        match $self {
            Way::Redfish($client) => $work,
            Way::Ipmi($client) => $work,
        }
    };
}

/// `https://HOST:PORT` or `ipmi://HOST:PORT` → `HOST`.
fn host(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or(rest);
    match rest.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or(six),
        None => rest.split(':').next().unwrap_or(rest),
    }
}

/// The line that is missing in the node's manifest, for what only IPMI has.
fn add_ipmi(beside: &Endpoint) -> String {
    let at = match &beside.at {
        EndpointAt::Redfish(url) => host(url),
        EndpointAt::Ipmi(at) => host(at),
    };
    let at = if at.contains(':') { format!("[{at}]:623") } else { format!("{at}:623") };
    format!("add to its bmc.endpoints in the inventory: - {{ ipmi: \"{at}\", credential: {} }}", beside.credential)
}

/// Whether the next endpoint may be tried after this. One that refuses the credential or shows a wrong key ends the
/// search: the next one is the same machine, and the same password would be tried again.
fn goes_on(failure: &Failure) -> bool {
    let causes = [Cause::Unreachable, Cause::Deadline, Cause::Busy, Cause::Refused, Cause::Malformed];
    causes.contains(&failure.cause)
}

/// Why IPMI was not entered.
enum Entering {
    /// IPMI cannot carry this name or password: nothing was sent, and Redfish may take it.
    Carry(Failure),
    Failed(Failure),
}

impl From<Entering> for Failure {
    fn from(entering: Entering) -> Failure {
        match entering {
            Entering::Carry(failure) | Entering::Failed(failure) => failure,
        }
    }
}

/// Greets, waits for its turn with the password, logs in: whoever is silent does not keep the others of its group waiting.
async fn enter_ipmi(node: &str, host: &str, login: &Login, options: &Options) -> Result<ipmi::Client, Entering> {
    ipmi::Client::carries(node, login).map_err(Entering::Carry)?;
    let enter = async {
        if !login.proof.accepted() {
            ipmi::Client::greet(node, host, login).await?;
        }
        let turn = login.proof.turn(node, &login.username).await?;
        let opened = ipmi::Client::open(node, host, login, options).await;
        turn.settle(node, Verdict::of(&opened));
        opened
    };
    enter.await.map_err(Entering::Failed)
}

impl Client {
    /// Logs in at the first endpoint, in the node's order, that can be driven.
    pub async fn open(node: &Node, passwords: &Passwords, options: Options) -> Result<Client, Failure> {
        Client::open_among(node, passwords, options, false).await
    }

    /// As [`Client::open`], over IPMI alone: for what Redfish does not have.
    pub async fn open_ipmi(node: &Node, passwords: &Passwords, options: Options) -> Result<Client, Failure> {
        Client::open_among(node, passwords, options, true).await
    }

    async fn open_among(
        node: &Node,
        passwords: &Passwords,
        options: Options,
        ipmi_alone: bool,
    ) -> Result<Client, Failure> {
        let what = format!("{}: log in at its BMC", node.name);
        let Some(bmc) = &node.bmc else {
            return Err(Failure::new(Cause::Guard, what, "the inventory names no BMC for this node"));
        };
        let mut skipped = Vec::new();
        let mut last: Option<Failure> = None;
        let wanted = |at: &EndpointAt| !ipmi_alone || matches!(at, EndpointAt::Ipmi(_));
        for endpoint in bmc.endpoints.iter().filter(|endpoint| wanted(&endpoint.at)) {
            let name = match &endpoint.at {
                EndpointAt::Redfish(url) => url.clone(),
                EndpointAt::Ipmi(host) => format!("ipmi://{host}"),
            };
            let login = match passwords.get(&node.name, &endpoint.credential) {
                Ok(login) => login,
                // Nothing was sent: the next endpoint may have a password. Who was asked says more than who was not.
                Err(failure) => {
                    skipped.push(format!("{name}: {}", failure.why));
                    last = last.or(Some(failure));
                    continue;
                }
            };
            let opened = match &endpoint.at {
                EndpointAt::Redfish(url) => {
                    let opened = client::Client::open(node, url, &endpoint.trust, login, &options).await;
                    opened.map(|client| Way::Redfish(Box::new(client)))
                }
                EndpointAt::Ipmi(host) => match enter_ipmi(&node.name, host, login, &options).await {
                    Ok(client) => Ok(Way::Ipmi(Box::new(client))),
                    Err(Entering::Carry(failure)) => {
                        skipped.push(format!("{name}: {}", failure.why));
                        last = last.or(Some(failure));
                        continue;
                    }
                    Err(Entering::Failed(failure)) => Err(failure),
                },
            };
            match opened {
                Ok(way) => {
                    if let Way::Ipmi(client) = &way
                        && let Some(why) = client.detour()
                    {
                        skipped.push(format!("{name} in process, now by ipmitool: {why}"));
                    }
                    let beside = matches!(way, Way::Redfish(_)).then(|| climb::Spare::of(node, passwords, &options));
                    return Ok(Client { way, skipped, spare: beside.flatten() });
                }
                Err(failure) if goes_on(&failure) => {
                    skipped.push(format!("{name}: {}", failure.why));
                    last = Some(failure);
                }
                Err(failure) if skipped.is_empty() => return Err(failure),
                Err(failure) => {
                    skipped.push(format!("{name}: {}", failure.why));
                    return Err(Failure { why: skipped.join("; "), ..failure });
                }
            }
        }
        match (last, skipped.as_slice()) {
            (Some(failure), [_]) => Err(failure),
            (Some(failure), _) => Err(Failure { why: skipped.join("; "), ..failure }),
            (None, _) => {
                let kind = if ipmi_alone { "IPMI endpoint" } else { "endpoint" };
                let failure = Failure::new(Cause::Guard, what, format!("the inventory names no {kind} of its BMC"));
                Err(match bmc.endpoints.first() {
                    Some(other) => failure.next(add_ipmi(other)),
                    None => failure.next(format!("rackctl explain node.spec.bmc.endpoints, and edit {}", node.name)),
                })
            }
        }
    }

    /// From now on `leave` is asked before the machine is taken away.
    pub fn asking_first(self, leave: Leave) -> Client {
        let way = match self.way {
            Way::Redfish(client) => Way::Redfish(Box::new(client.asking_first(leave))),
            Way::Ipmi(client) => Way::Ipmi(Box::new(client.asking_first(leave))),
        };
        Client { way, ..self }
    }

    /// What is driven, where both ways have their own.
    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// What only Redfish has. The failure says which endpoint is driven instead, and why.
    pub fn redfish(&self, doing: &str) -> Result<&client::Client, Failure> {
        match &self.way {
            Way::Redfish(client) => Ok(client),
            Way::Ipmi(client) => {
                let mut why = format!("it is driven by {}, and IPMI does not have this", client.endpoint());
                if !self.skipped.is_empty() {
                    why = format!("{why} ({})", self.skipped.join("; "));
                }
                let host = host(client.endpoint());
                Err(Failure::new(Cause::Refused, format!("{}: {doing}", self.node()), why)
                    .next(format!("rackctl bmc scan {host}/32, which prints its Redfish endpoint if it has one")))
            }
        }
    }

    /// What only IPMI has; as [`Client::redfish`].
    pub fn ipmi(&self, doing: &str) -> Result<&ipmi::Client, Failure> {
        match &self.way {
            Way::Ipmi(client) => Ok(client),
            Way::Redfish(client) => {
                let why = format!("it is driven by {}, and this is IPMI's", client.endpoint());
                Err(Failure::new(Cause::Refused, format!("{}: {doing}", self.node()), why))
            }
        }
    }

    /// Why the endpoints before the one that is driven, or the way in process to it, were passed over.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }
    /// What is there and could not be read over Redfish; told beside what was read.
    pub fn unread(&self) -> Vec<String> {
        match &self.way {
            Way::Redfish(client) => client.unread(),
            Way::Ipmi(_) => Vec::new(),
        }
    }
    pub fn node(&self) -> &str {
        both!(&self.way, client => client.node())
    }
    /// The endpoint that answered: `https://HOST[:PORT]` or `ipmi://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        both!(&self.way, client => client.endpoint())
    }
    /// The Redfish session in use; `None` under Basic auth, and over IPMI, whose sessions nobody else can close.
    pub fn session_uri(&self) -> Option<String> {
        match &self.way {
            Way::Redfish(client) => client.session_uri(),
            Way::Ipmi(_) => None,
        }
    }

    /// Ends the session. Call it on every way out.
    pub async fn close(self) -> Result<(), Failure> {
        both!(self.way, client => client.close().await)
    }

    /// Deletes what these Redfish log-ins left, and nothing else. Returns how many; over IPMI none can be reached.
    pub async fn delete_leftover_sessions(&self, left: &[Leftover]) -> Result<u32, Failure> {
        match &self.way {
            Way::Redfish(client) => client.delete_leftover_sessions(left).await,
            Way::Ipmi(_) => Ok(0),
        }
    }

    /// The machine as its BMC describes it.
    pub async fn facts(&self) -> Result<BmcFacts, Failure> {
        both!(&self.way, client => client.facts().await)
    }
    pub async fn power(&self) -> Result<PowerState, Failure> {
        both!(&self.way, client => client.power().await)
    }
    /// The override in force. A target that has no word here is `Refused` with its name.
    pub async fn boot(&self) -> Result<BootOverride, Failure> {
        both!(&self.way, client => client.boot().await)
    }
    /// `LastResetTime` as the BMC writes it: compared with itself only. IPMI has none.
    pub async fn last_reset_time(&self) -> Result<Option<String>, Failure> {
        match &self.way {
            Way::Redfish(client) => client.last_reset_time().await,
            Way::Ipmi(_) => Ok(None),
        }
    }
    /// The BMC itself: model, firmware, clock.
    pub async fn bmc_info(&self) -> Result<ManagerFacts, Failure> {
        both!(&self.way, client => client.bmc_info().await)
    }
    /// Sets the override, or clears it ([`BootOverride::CLEARED`]), and reads it back.
    pub async fn set_boot(&self, want: BootOverride) -> Result<(), Failure> {
        both!(&self.way, client => client.set_boot(want).await)
    }
    /// Sends one reset and does not wait for its effect. Never sent twice.
    pub async fn reset(&self, action: PowerAction) -> Result<(), Failure> {
        both!(&self.way, client => client.reset(action).await)
    }
    /// Brings the machine on or off and waits until the BMC shows it. Off asks the operating system first; only with
    /// `force` is the power cut when it does not listen.
    pub async fn set_power(&self, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
        both!(&self.way, client => client.set_power(on, force, deadline).await)
    }

    /// What a power verb asks, by the moves that this BMC offers, each seen as far as it shows it. `Some`: what could not be
    /// told. `limit`: of each move.
    pub async fn drive(&self, wish: Wish, limit: Duration) -> Result<Option<String>, Failure> {
        both!(&self.way, client => client.drive(wish, limit).await)
    }
    /// What [`Client::drive`] would send now, as lines to read, in order. Nothing but reads is sent.
    pub async fn preview_drive(&self, wish: Wish) -> Result<Vec<String>, Failure> {
        both!(&self.way, client => client.preview_drive(wish).await)
    }
    /// A diagnostic interrupt to the machine.
    pub async fn nmi(&self) -> Result<(), Failure> {
        both!(&self.way, client => client.nmi().await)
    }

    /// What each operation would send, as lines to read, best first; the later ones only where the BMC refuses the
    /// earlier. An operation's `Err` says why the BMC cannot do it. Nothing but reads is sent.
    pub async fn preview(&self, operations: &[Operation]) -> Result<Vec<Result<Vec<String>, String>>, Failure> {
        match &self.way {
            Way::Redfish(client) => {
                let view = client.system_view().await?;
                let lines = |operation: &Operation| {
                    let requests = client::requests_preview(&view, *operation)?;
                    Ok(requests.iter().map(|r| format!("{} {} {}", r.method, r.path, r.body)).collect())
                };
                Ok(operations.iter().map(lines).collect())
            }
            Way::Ipmi(client) => client.preview(operations).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_as_the_line_to_write() {
        let of = |at| {
            let trust = crate::model::fleet::Trust::None;
            add_ipmi(&Endpoint { at, credential: "bmc-default".into(), trust })
        };
        let line = of(EndpointAt::Redfish("https://10.0.0.11:8443".into()));
        assert!(line.ends_with("- { ipmi: \"10.0.0.11:623\", credential: bmc-default }"), "{line}");
        assert!(of(EndpointAt::Redfish("https://[fd00::1]/".into())).contains("\"[fd00::1]:623\""));
    }

    #[test]
    fn a_refused_password_is_not_tried_at_the_next_endpoint() {
        let of = |cause| goes_on(&Failure::new(cause, "x", "y"));
        assert!(of(Cause::Unreachable) && of(Cause::Refused) && of(Cause::Malformed) && of(Cause::Busy));
        for cause in [Cause::Unauthorized, Cause::Untrusted, Cause::Guard, Cause::Local, Cause::Interrupted] {
            assert!(!of(cause), "{cause:?}");
        }
    }
}
