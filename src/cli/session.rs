//! What the verbs that touch machines share: fleet, store, namespace, credentials.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, stream};

pub(super) use super::opened::{named, store_path};
use super::{
    ask,
    globals::Globals,
    interrupt,
    opened::{self, Opened},
};
use crate::{
    bmc,
    inventory::template::credential_for,
    model::{
        Failure, Fleet, Secret,
        failure::Cause,
        fleet::{Credential, Node},
        power::PowerState,
    },
    output::{Exit, Stop, plan::Place, stdout},
    run::{
        clock, netns,
        observe::Asking,
        sessions::{self, LogIn, Stopped, Until},
    },
    secrets,
    store::{Fence, Holder, Store, StoreError},
};

/// Machines at the same time, unless `--concurrency` says otherwise.
pub const CONCURRENCY: usize = 64;

/// For the log-in that closes what others left open.
const SWEEP: std::time::Duration = std::time::Duration::from_secs(15);

/// Password helpers that run at the same time.
const HELPERS_AT_ONCE: usize = 8;

pub(super) type Told = Arc<tokio::sync::Mutex<BTreeMap<String, Arc<Secret>>>>;

#[derive(Clone)]
pub struct Session {
    pub fleet: Fleet,
    pub store: Arc<dyn Store>,
    /// Keys and scratch files stand beside the store.
    pub folder: PathBuf,
    pub read_only: bool,
    pub concurrency: usize,
    pub verbose: u8,
    /// How long its locks are good for without a renewal.
    pub lease: std::time::Duration,
    /// Passwords that a person gave to this command, by credential.
    pub(super) told: Told,
}

/// How long a lock outlives its last renewal: twice what the slowest BMC may take to answer one request.
const LEASE: std::time::Duration = std::time::Duration::from_secs(60);
/// Shorter leases, for rehearsals and tests: `RACKCTL_LEASE=6s`.
const LEASE_VAR: &str = "RACKCTL_LEASE";

pub(super) fn lease() -> Result<std::time::Duration, Failure> {
    let Some(text) = std::env::var_os(LEASE_VAR) else { return Ok(LEASE) };
    let text = text.to_string_lossy();
    super::args::values::duration(&text).ok().filter(|d| d.as_secs() >= 1).ok_or_else(|| {
        Failure::new(Cause::Local, LEASE_VAR, format!("`{text}` is no time of a second or more, as in `60s`"))
    })
}

/// How long a machine that is on may take to show what its start brings into force; for rehearsals and tests:
/// `RACKCTL_BASELINE_WAIT=5s`.
const SETTLES_VAR: &str = "RACKCTL_BASELINE_WAIT";

pub(super) fn settles() -> Result<Option<std::time::Duration>, Failure> {
    let Some(text) = std::env::var_os(SETTLES_VAR) else { return Ok(None) };
    let text = text.to_string_lossy();
    super::args::values::duration(&text).map(Some).map_err(|why| Failure::new(Cause::Local, SETTLES_VAR, why))
}

impl Session {
    /// Locks for a run, or who has them.
    pub fn lock(&self, names: &[String], run: &str) -> Result<Fence, Stop> {
        self.store.lock(names, run, &Holder::this(), &clock::stamp(), self.lease).map_err(|e| stop(&e))
    }

    /// Gives locks back after what they were taken for. What went wrong there is told first, whatever becomes of them.
    pub fn release<T>(&self, fence: &Fence, result: Result<T, Stop>) -> Result<T, Stop> {
        match (self.store.unlock(fence), result) {
            (Ok(()), result) => result,
            (Err(error), Ok(_)) => Err(stop(&error)),
            (Err(error), Err(mut stop)) => {
                stop.failures.push(failure(&error));
                Err(stop)
            }
        }
    }

    pub fn open(globals: &Globals) -> Result<Session, Stop> {
        Self::with_fleet(globals, globals.fleet()?)
    }

    /// For verbs that only ask: [`Globals::fleet_to_look`].
    pub fn to_look(globals: &Globals) -> Result<Session, Stop> {
        Self::with_fleet(globals, globals.fleet_to_look()?)
    }

    pub fn with_fleet(globals: &Globals, fleet: Fleet) -> Result<Session, Stop> {
        let Opened { store, folder } = opened::open(globals.store.as_deref(), &fleet)?;
        Ok(Session {
            fleet,
            store,
            folder,
            read_only: globals.read_only,
            concurrency: globals.concurrency.unwrap_or(CONCURRENCY),
            verbose: globals.verbose,
            lease: lease()?,
            told: Arc::default(),
        })
    }

    pub fn scratch(&self) -> Result<PathBuf, Failure> {
        let folder = self.folder.join("scratch");
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::new(Cause::Local, format!("make {}", folder.display()), e.to_string()))?;
        Ok(folder)
    }

    pub fn node(&self, name: &str) -> Result<&Node, Failure> {
        self.fleet.nodes.get(name).ok_or_else(|| {
            Failure::new(Cause::Guard, format!("node {name}"), "it is not in the inventory").next("rackctl get nodes")
        })
    }

    /// Networks of these nodes, by name.
    pub fn networks(&self, names: &[String]) -> BTreeSet<String> {
        names
            .iter()
            .filter_map(|n| self.fleet.nodes.get(n))
            .filter_map(|n| n.provision().and_then(|i| i.network.clone()))
            .filter(|n| self.fleet.networks.contains_key(n))
            .collect()
    }

    /// Enters the namespace of the nodes' networks, if they have one. Before any thread is started.
    pub fn enter(&self, names: &[String]) -> Result<Option<String>, Failure> {
        let spaces: BTreeSet<Option<&String>> =
            self.networks(names).iter().map(|n| self.fleet.networks[n].netns.as_ref()).collect();
        match spaces.into_iter().collect::<Vec<_>>().as_slice() {
            [] | [None] => Ok(None),
            [Some(name)] => {
                netns::enter(name)?;
                Ok(Some((*name).clone()))
            }
            several => {
                let list: Vec<&str> = several.iter().map(|n| n.map_or("none", String::as_str)).collect();
                Err(Failure::new(
                    Cause::Guard,
                    "enter the network namespace",
                    format!("these nodes lie in different ones ({}), and one process works in one", list.join(", ")),
                )
                .next("name nodes of one network"))
            }
        }
    }

    /// The BMC passwords of these nodes, each source asked once. One that cannot be had stops its own nodes alone.
    pub async fn passwords(&self, names: &[String]) -> Result<Arc<bmc::Passwords>, Failure> {
        let mut passwords = bmc::Passwords::new();
        let mut own = Vec::new();
        let mut shared = BTreeSet::new();
        for node in names.iter().filter_map(|n| self.fleet.nodes.get(n)) {
            let credentials: BTreeSet<&String> =
                node.bmc.iter().flat_map(|b| b.endpoints.iter().map(|e| &e.credential)).collect();
            for name in credentials {
                let Some(credential) = self.fleet.credentials.get(name) else {
                    let why = "it is not in the inventory";
                    let failure = Failure::new(Cause::Guard, format!("credential {name}"), why);
                    passwords.put(name, Err(failure.next("rackctl validate")));
                    continue;
                };
                match credential_for(credential, node) {
                    Ok(filled) if filled == *credential => drop(shared.insert(name)),
                    Ok(filled) => own.push((node.name.clone(), name.clone(), filled)),
                    Err(failure) => passwords.put_for(&node.name, name, Err(failure)),
                }
            }
        }
        // A person is asked for what is needed first: a second endpoint may never have its turn.
        let first = |name: &String| {
            let endpoints = names.iter().filter_map(|n| self.fleet.nodes.get(n)?.bmc.as_ref()?.endpoints.first());
            endpoints.into_iter().any(|endpoint| endpoint.credential == *name)
        };
        for name in shared {
            let credential = &self.fleet.credentials[name];
            let login =
                if first(name) { self.login_or_ask(name, credential).await } else { login(name, credential).await };
            passwords.put(name, login);
        }
        // Of sources that differ from machine to machine, a person is asked for one at most.
        if let [(node, name, credential)] = own.as_slice()
            && first(name)
        {
            passwords.put_for(node, name, self.login_or_ask(name, credential).await);
            own.clear();
        }
        // A helper program for each node: some at a time, for each may take seconds.
        let mut asked = stream::iter(own.into_iter().map(|(node, name, credential)| async move {
            let login = login(&name, &credential).await;
            (node, name, login)
        }))
        .buffer_unordered(HELPERS_AT_ONCE);
        while let Some((node, name, login)) = asked.next().await {
            passwords.put_for(node, name, login);
        }
        Ok(Arc::new(passwords))
    }

    /// The last source is the person at the terminal, asked once a command. A source that says what is wrong with itself
    /// (a file that others can read) is not passed over by that.
    async fn login_or_ask(&self, name: &str, credential: &Credential) -> Result<bmc::Login, Failure> {
        let failure = match login(name, credential).await {
            Err(failure) if ask::may_ask(failure.cause) => failure,
            other => return other,
        };
        let mut told = self.told.lock().await;
        let password = match told.get(name) {
            Some(password) => Arc::clone(password),
            None => {
                stdout::note(&format!("credential `{name}`: {}", failure.why));
                let prompt = format!("password of `{}` ({name})", credential.username);
                // A refusal to answer leaves what was wrong before.
                let password = ask::password(&prompt, false).map_err(|asked| match asked.cause {
                    Cause::Interrupted => asked,
                    _ => Failure { why: format!("{}; {}", failure.why, asked.why), ..failure },
                })?;
                let password = Arc::new(password);
                told.insert(name.to_owned(), Arc::clone(&password));
                password
            }
        };
        Ok(bmc::Login::new(&credential.username, password))
    }

    /// With `-v` every request to a BMC is a line on standard error.
    pub fn observer(&self) -> Option<bmc::client::Observer> {
        (self.verbose > 0).then(|| {
            let observer: bmc::client::Observer = Arc::new(|line: &bmc::RequestLine| {
                let status = line.status.map_or("no answer".to_owned(), |s| s.to_string());
                stdout::note(&format!(
                    "{}: {} {} → {status} ({} ms)",
                    line.node,
                    line.method,
                    line.path,
                    line.took.as_millis()
                ));
            });
            observer
        })
    }

    /// Until the ear goes, ^C ends the asking and not the program.
    pub fn asking(&self, passwords: &Arc<bmc::Passwords>, bmcs: bool) -> Result<(Asking, interrupt::Ear), Failure> {
        let ear = interrupt::looks()?;
        let asking = Asking {
            passwords: Arc::clone(passwords),
            store: Arc::clone(&self.store),
            read_only: self.read_only,
            concurrency: self.concurrency,
            scratch: self.scratch()?,
            observer: self.observer(),
            bmcs,
            baselines: false,
            stopped: ear.told(),
        };
        Ok((asking, ear))
    }

    /// A log-in at one BMC.
    pub async fn bmc(
        &self,
        node: &Node,
        passwords: &bmc::Passwords,
        deadline: std::time::Duration,
    ) -> Result<bmc::Client, Failure> {
        let how = LogIn { read_only: self.read_only, deadline, observer: self.observer(), gate: None };
        let client = sessions::open(&self.store, node, passwords, how).await?;
        tell_detour(&client);
        Ok(client)
    }

    /// One look at one BMC, logged out of on every way out.
    pub async fn look<T>(
        &self,
        node: &Node,
        passwords: &bmc::Passwords,
        deadline: std::time::Duration,
        stopped: &Stopped,
        operation: impl AsyncFnOnce(&bmc::Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let how = LogIn { read_only: self.read_only, deadline, observer: self.observer(), gate: None };
        let until = Until { stopped, limit: None };
        sessions::look(&self.store, node, passwords, how, until, async |client: &bmc::Client| {
            tell_detour(client);
            operation(client).await
        })
        .await
    }

    /// A machine's power state, with as few requests as its BMC allows.
    pub async fn power(
        &self,
        node: &Node,
        passwords: &bmc::Passwords,
        deadline: std::time::Duration,
        swept: bool,
        stopped: &Stopped,
    ) -> Result<PowerState, Failure> {
        let how = LogIn { read_only: self.read_only, deadline, observer: self.observer(), gate: None };
        sessions::power(&self.store, node, passwords, how, swept, stopped).await
    }

    /// Nodes at whose BMCs somebody left a session: the next log-in there closes it.
    pub fn left_open(&self) -> Result<BTreeSet<String>, Failure> {
        let left = sessions::leftovers(self.store.as_ref()).map_err(|e| failure(&e))?;
        Ok(left.into_iter().map(|s| s.node).collect())
    }

    /// Sessions that dead processes and cut-off steps left in BMCs are deleted: each log-in does that for its own BMC.
    pub async fn sweep(&self, passwords: &bmc::Passwords) -> Result<(), Failure> {
        let left = || sessions::leftovers(self.store.as_ref()).map_err(|e| failure(&e));
        // Of nodes whose BMCs this command cannot log in to, others take care.
        let ours = |name: &str| {
            let node = self.fleet.nodes.get(name)?;
            let endpoints = &node.bmc.as_ref()?.endpoints;
            endpoints.iter().any(|e| passwords.get(name, &e.credential).is_ok()).then_some(node)
        };
        let names: BTreeSet<String> = left()?.into_iter().map(|s| s.node).collect();
        for node in names.iter().filter_map(|n| ours(n)) {
            match self.bmc(node, passwords, SWEEP).await {
                Ok(client) => drop(client.close().await),
                Err(failure) => stdout::note(&format!("warning: a session may be left open: {failure}")),
            }
        }
        if !names.is_empty() {
            let overdue = sessions::overdue(self.store.as_ref()).map_err(|e| failure(&e))?;
            for session in overdue.iter().filter(|s| ours(&s.node).is_some()) {
                stdout::note(&format!("warning: {}: a session is left open at its BMC", session.node));
            }
        }
        Ok(())
    }

    /// As [`Session::sweep`], for whoever has no more time than that.
    pub async fn sweep_within(&self, passwords: &bmc::Passwords, limit: std::time::Duration) {
        match tokio::time::timeout(limit, self.sweep(passwords)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => stdout::note(&format!("warning: a session may be left open: {failure}")),
            Err(_) => stdout::note("warning: sessions may be left open at BMCs: the next command closes them"),
        }
    }

    pub fn place(&self, globals: &Globals, names: &[String]) -> Place {
        let sites: BTreeSet<&str> =
            names.iter().filter_map(|n| self.fleet.nodes.get(n)).filter_map(|n| n.site.as_deref()).collect();
        let site = (!sites.is_empty()).then(|| sites.into_iter().collect::<Vec<_>>().join("+"));
        Place {
            context: self.fleet.context.clone().or_else(|| globals.context.clone()),
            site: globals.site.clone().or(site),
            revision: revision(&self.fleet),
        }
    }
}

/// Which endpoint is driven, where that is not the first one.
fn tell_detour(client: &bmc::Client) {
    for reason in client.skipped() {
        stdout::note(&format!("{}: driven by {}; passed over: {reason}", client.node(), client.endpoint()));
    }
}

/// Asks the source of a credential.
async fn login(name: &str, credential: &Credential) -> Result<bmc::Login, Failure> {
    let password = secrets::password(name, credential).await.map_err(|failure| match failure.next {
        Some(_) => failure,
        None => failure.next(format!("rackctl describe credential {name}")),
    })?;
    let password = Arc::new(password);
    secrets::remember(&password);
    Ok(bmc::Login::new(&credential.username, password))
}

/// Revision of the inventory's checkout, asked of git; `None` outside of one.
fn revision(fleet: &Fleet) -> Option<(String, bool)> {
    let place = fleet.places.values().next()?;
    let folder = Path::new(place.split(':').next()?).parent()?.to_owned();
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .arg("-C")
            .arg(&folder)
            .args(arguments)
            .stderr(std::process::Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short", "HEAD"])?;
    let dirty = git(&["status", "--porcelain", "--", "."]).is_some_and(|text| !text.is_empty());
    Some((revision, dirty))
}

pub fn failure(error: &StoreError) -> Failure {
    error.to_failure()
}

/// A lock in other hands has an exit code of its own, and a state that cannot be believed stops every verb.
pub fn stop(error: &StoreError) -> Stop {
    match error {
        StoreError::Locked(_) => Stop::with(Exit::Locked, failure(error)),
        other => failure(other).into(),
    }
}

/// One runtime for a verb; started only after the namespace was entered.
pub fn block_on<T>(future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    on(tokio::runtime::Builder::new_multi_thread().worker_threads(2), future)
}

/// As [`block_on`], for verbs that only ask. One thread: of what an answer costs, a quarter was handing it from the thread
/// that hears the network to the one that waits (measured with 10,000 BMCs, `cargo xtask bench bmc`).
pub fn block_on_alone<T>(future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    on(&mut tokio::runtime::Builder::new_current_thread(), future)
}

fn on<T>(builder: &mut tokio::runtime::Builder, future: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    let runtime = builder.enable_all().build().map_err(|e| Failure::new(Cause::Local, "start", e.to_string()))?;
    let result = runtime.block_on(future);
    // Look-ups in the background must not hold the prompt.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

/// Digests that image building gave, by image.
pub type Built = BTreeMap<String, crate::image::Artifacts>;
