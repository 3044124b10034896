//! A run with everything around it: servers, API, signals, journal head and report.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{
    globals::Globals,
    interrupt,
    session::{Session, settles, stop},
};
use crate::{
    bmc,
    cluster::etcd::observe_client,
    engine::Outcome,
    model::{
        Failure,
        approval::Envelope,
        boot::{BootObject, BootTable, NetbootEvent},
        clock::utc,
        failure::Cause,
        fleet::ClusterDriver,
        goal::Goal,
    },
    netboot::servers::Servers,
    output::{
        Exit, Format, Stop,
        progress::{Progress, Update},
        report::{self, Report},
        stdout, timeline,
    },
    plan::{Plan, Subject},
    run::{self, Notice, Outside, World, WorldParts, api, keys::Keys},
    secrets,
    store::{Fence, Record, RecordKind, RunState, StoreError},
};

/// From the first table to open sockets, the look for other DHCP servers included.
const READY_DEADLINE: Duration = Duration::from_secs(15);
/// Of servers that take no orders any more, until their end is seen.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Version of the table with which the sockets are opened.
const FIRST_TABLE: u64 = 1;
/// How long a machine may take to change its power.
const POWER_PATIENCE: Duration = Duration::from_secs(180);

pub struct Run {
    pub id: String,
    pub plan: Plan,
    pub fence: Fence,
    pub passwords: Arc<bmc::Passwords>,
    pub objects: Vec<BootObject>,
    pub servers: BTreeMap<String, std::net::Ipv4Addr>,
    /// What the journal holds of it already.
    pub records: Vec<Record>,
    /// Started before any thread; taken only where the plan boots something.
    pub child: Option<Servers>,
    /// What was approved, and until when.
    pub approval: Option<(Envelope, u64)>,
    /// Nothing is done but what leaves its machines safe.
    pub abort: bool,
}

pub async fn conduct(globals: &Globals, session: &Session, run: Run) -> Result<Exit, Stop> {
    let boots = !run.plan.networks.is_empty() && !run.abort;
    if run.plan.networks.len() > 1 {
        return Err(Failure::new(
            Cause::Guard,
            "network-boot servers",
            format!("this version serves one network a run; the plan has {}", run.plan.networks.len()),
        )
        .next("name nodes of one network")
        .into());
    }
    let keys = Arc::new(Keys::open(&session.folder.join("keys"))?);
    let api = keys.api()?;
    let servers: BTreeMap<_, _> = run.servers.into_iter().filter(|(n, _)| run.plan.networks.contains_key(n)).collect();
    let (taken_in, taken) = watch::channel(0);
    let (tables, tables_out) = mpsc::unbounded_channel::<BootTable>();
    let (outside_in, outside) = mpsc::channel::<Outside>(256);
    let world = Arc::new(World::new(WorldParts {
        fleet: session.fleet.clone(),
        plan: run.plan.clone(),
        run: run.id.clone(),
        store: Arc::clone(&session.store),
        fence: run.fence.clone(),
        keys,
        api_pin: api.pin.clone(),
        passwords: run.passwords,
        read_only: session.read_only,
        objects: run.objects,
        servers: servers.clone(),
        tables: boots.then_some(tables),
        taken,
        first_table: FIRST_TABLE - 1,
        scratch: session.scratch()?,
        observer: session.observer(),
        patience: POWER_PATIENCE,
        lease: session.lease,
        settles: settles()?,
        approval: run.approval,
    }));
    // Before the first answer to anybody: an installer whose claim is not known yet would take the refusal as final.
    run::restore(&world, &run.records)?;
    let mut background = tokio::task::JoinSet::new();
    if boots {
        let child =
            run.child.ok_or_else(|| Failure::new(Cause::Local, "network-boot servers", "they were not started"))?;
        let (mut orders, mut events) = child.into_async();
        // Ports, rights and other servers are found out before any machine is touched (F21, F28).
        let first = world.table()?;
        orders.serve(&first)?;
        wait_ready(&mut events).await?;
        let _ = taken_in.send(FIRST_TABLE);
        let (network, address) = servers.iter().next().map(|(n, a)| (n.clone(), *a)).ok_or_else(|| {
            Failure::new(Cause::Local, "network-boot servers", "this host has no address on the plan's network")
        })?;
        let port = session.fleet.networks.get(&network).map_or(8443, |n| n.api_port);
        let listener = api::listen(std::net::SocketAddrV4::new(address, port)).await?;
        background.spawn(api::serve(listener, api.config, Arc::clone(&world)));
        let serve = move |table: &BootTable| orders.serve(table).is_ok();
        background.spawn(relay(serve, events, tables_out, taken_in, outside_in.clone()));
    }
    background.spawn(signals(outside_in));

    let view = Arc::new(Mutex::new(View::new(globals)));
    let notify = {
        let view = Arc::clone(&view);
        move |notice: Notice| {
            if let Ok(mut view) = view.lock() {
                view.show(&notice);
            }
        }
    };
    let pace = run::Pace { concurrency: session.concurrency, stagger: Duration::ZERO, abort: run.abort };
    let ended = run::execute(Arc::clone(&world), &run.records, pace, outside, notify).await;
    background.shutdown().await;
    if let Ok(mut view) = view.lock() {
        view.progress.finish();
    }
    // Tasks that were cut off may have left a log-in behind.
    session.sweep(&world.passwords()).await?;
    let (outcome, failures) = match ended {
        Ok(ended) => (ended.outcome, ended.failures),
        Err(failure) => (Outcome::Interrupted, vec![("run".to_owned(), failure)]),
    };
    finish(globals, session, &world, &run.fence, outcome, failures, run.abort).await
}

/// Between the run and its boot servers, until one of them ends. Whatever ends them, the run hears of it: what a step
/// notices by itself is that step's failure, and its node's for good.
async fn relay<Table>(
    mut serve: impl FnMut(&Table) -> bool,
    mut events: mpsc::Receiver<NetbootEvent>,
    mut tables: mpsc::UnboundedReceiver<Table>,
    taken: watch::Sender<u64>,
    outside: mpsc::Sender<Outside>,
) {
    loop {
        let event = tokio::select! {
            table = tables.recv() => match table {
                None => return,
                Some(table) if serve(&table) => continue,
                // Seen here before their last words were.
                Some(_) => last_words(&mut events).await,
            },
            event = events.recv() => event.unwrap_or_else(servers_ended),
        };
        let ended = matches!(event, NetbootEvent::Failed { .. });
        if let NetbootEvent::TableTaken { version } | NetbootEvent::Ready { version } = &event {
            let _ = taken.send(*version);
        }
        if outside.send(Outside::Netboot(event)).await.is_err() || ended {
            return;
        }
    }
}

fn servers_ended() -> NetbootEvent {
    NetbootEvent::Failed { failure: run::servers_ended() }
}

/// Of servers that take no orders any more: why they failed, if they said so before they ended.
async fn last_words(events: &mut mpsc::Receiver<NetbootEvent>) -> NetbootEvent {
    let said = async {
        loop {
            match events.recv().await {
                Some(failed @ NetbootEvent::Failed { .. }) => return failed,
                Some(_) => {}
                None => return servers_ended(),
            }
        }
    };
    tokio::time::timeout(LAST_WORDS, said).await.unwrap_or_else(|_| servers_ended())
}

async fn wait_ready(events: &mut mpsc::Receiver<NetbootEvent>) -> Result<(), Failure> {
    let wait = async {
        while let Some(event) = events.recv().await {
            match event {
                NetbootEvent::Ready { .. } => return Ok(()),
                NetbootEvent::Failed { failure } => return Err(failure),
                NetbootEvent::RogueDhcp { server } => {
                    return Err(Failure::new(
                        Cause::Guard,
                        "network-boot servers",
                        format!("another DHCP server answers on this network: {server}"),
                    )
                    .next("stop that server, or set dhcp.mode: proxy on the network"));
                }
                _ => {}
            }
        }
        Err(Failure::new(Cause::Local, "network-boot servers", "their process ended before it was ready")
            .next("rackctl doctor"))
    };
    tokio::time::timeout(READY_DEADLINE, wait).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Cause::Deadline,
            "network-boot servers",
            format!("not ready within {} s", READY_DEADLINE.as_secs()),
        )
        .next("rackctl doctor"))
    })
}

/// The first ^C drains, the second one stops at once.
pub async fn signals(to: mpsc::Sender<Outside>) {
    let first = "interrupted: finishing what is in hand (again to stop at once)";
    let Ok(ear) = interrupt::listen(first, "stopped at once; go on with: rackctl resume") else { return };
    let mut told = ear.told();
    // What a run puts away at its end is not to be cut off by a first ^C.
    ear.for_good();
    if told.wait_for(|told| *told).await.is_ok() {
        let _ = to.send(Outside::Interrupt).await;
    }
}

async fn finish(
    globals: &Globals,
    session: &Session,
    world: &World,
    fence: &Fence,
    outcome: Outcome,
    failures: Vec<(String, Failure)>,
    aborted_here: bool,
) -> Result<Exit, Stop> {
    let state = match outcome {
        Outcome::Succeeded => RunState::Succeeded,
        Outcome::Interrupted => RunState::Interrupted,
        Outcome::Paused => RunState::Paused,
        Outcome::Aborted => RunState::Aborted,
        Outcome::Halted => RunState::Halted,
        _ => RunState::Failed,
    };
    let draft = crate::store::Draft {
        subject: "run".into(),
        step: "run".into(),
        attempt: 1,
        kind: match outcome {
            Outcome::Paused => RecordKind::RunPaused,
            Outcome::Aborted => RecordKind::RunAborted,
            _ => RecordKind::RunEnded,
        },
        body: serde_json::json!({ "outcome": report::outcome_word(outcome) }),
    };
    // A fence that was lost leaves the run to the one who took it.
    let head = match world.append(draft) {
        Ok(record) => {
            session.store.set_run_state(&world.run, state, Some(run::clock::unix_ms())).map_err(|e| stop(&e))?;
            session.store.unlock(fence).map_err(|e| stop(&e))?;
            record.hash
        }
        Err(StoreError::Fenced { .. }) => return Err(taken(session, &world.run)),
        Err(error) => {
            stdout::note(&format!("warning: the run's end was not recorded: {error}"));
            "-".to_owned()
        }
    };
    let records = session.store.journal(&world.run).map_err(|e| stop(&e))?;
    let timeline = timeline::timeline(&world.plan, &records);
    let members = member_rows(session, &world.plan).await;
    let report =
        Report { run: &world.run, outcome, timeline: &timeline, failures: &failures, members: &members, head: &head };
    if matches!(world.plan.goal, Goal::Inspect { .. }) {
        super::inspect::tell(globals, &session.fleet, &world.plan, &records)?;
    } else if globals.format.is_for_people() {
        let mut text = String::new();
        text.push_str(&report::times(&report).render(stdout::width()));
        if let Some(table) = report::members(&report) {
            text.push('\n');
            text.push_str(&table.render(stdout::width()));
        }
        text.push('\n');
        text.push_str(&report::summary(&report));
        text.push('\n');
        stdout::print(&text)?;
    } else if !globals.within_playbook {
        stdout::print(&globals.format.render_one(&report::value(&report), |_| report::summary(&report)))?;
    }
    let past = run::past(&records);
    let whole = |t: &crate::plan::Track| t.steps.iter().all(|s| past.get(&s.id).is_some_and(|p| p.done));
    let some_done = world.plan.tracks.iter().any(|t| !t.steps.is_empty() && whole(t));
    let refused = !world.plan.refusals.is_empty();
    let guarded = !failures.is_empty() && failures.iter().all(|(_, f)| f.cause == Cause::Guard);
    let exit = match outcome {
        Outcome::Succeeded if refused => Exit::Partial,
        Outcome::Succeeded => Exit::Done,
        Outcome::Partly => Exit::Partial,
        // Nothing went wrong but what a guard forbids: a cluster that somebody else has just made, for one.
        Outcome::Failed | Outcome::Halted if guarded && !some_done => Exit::Refused,
        Outcome::Failed => Exit::Failed,
        Outcome::NeedsPerson => Exit::NeedsPerson,
        Outcome::Interrupted | Outcome::Paused => Exit::Interrupted,
        // Asked for by name: `abort` that ends so has done what it was for.
        Outcome::Aborted if aborted_here && failures.is_empty() => Exit::Done,
        Outcome::Aborted => Exit::Failed,
        Outcome::Halted if some_done => Exit::Partial,
        Outcome::Halted => Exit::Failed,
    };
    let mut told: Vec<Failure> = failures
        .into_iter()
        .map(|(step, f)| Failure {
            what: if f.what.contains(step.as_str()) || step == "run" { f.what } else { format!("{step}: {}", f.what) },
            ..f
        })
        .collect();
    if matches!(outcome, Outcome::Paused | Outcome::Halted) {
        let why = if outcome == Outcome::Paused {
            "it was paused and can be resumed"
        } else {
            "it was halted: nodes are left that never began"
        };
        told.push(
            Failure::new(Cause::Interrupted, format!("run {}", world.run), why)
                .next(format!("rackctl resume {0}, or rackctl abort {0}", world.run)),
        );
    }
    if outcome == Outcome::Interrupted {
        told.push(
            Failure::new(Cause::Interrupted, format!("run {}", world.run), "it was interrupted and can be resumed")
                .next(format!("rackctl resume {}", world.run)),
        );
    }
    if told.is_empty() { Ok(exit) } else { Err(Stop { exit, failures: told }) }
}

/// Somebody else has the run's locks by now: who took them, why, and what became of the run.
pub fn taken(session: &Session, run: &str) -> Stop {
    let records = session.store.journal(run).unwrap_or_default();
    let by = records.iter().rev().find(|r| r.kind == RecordKind::LockStolen);
    let word = |name: &str| by.and_then(|r| r.body.get(name)?.as_str()).unwrap_or_default().to_owned();
    let who = match by {
        Some(r) => format!("{} took its locks at {} ({})", word("to"), utc(r.at_ms), word("reason")),
        None => "its locks are no longer ours".to_owned(),
    };
    let now = match records.iter().rev().find(|r| matches!(r.kind, RecordKind::RunResumed | RecordKind::RunEnded)) {
        Some(r) if r.kind == RecordKind::RunEnded => {
            format!("{} ended the run: {}", r.actor, r.body["outcome"].as_str().unwrap_or("-"))
        }
        Some(r) => format!("{} goes on with it", r.actor),
        None => "nobody has gone on with it yet".to_owned(),
    };
    let what = format!("run {run}");
    let failure = Failure::new(Cause::Interrupted, what, format!("{who}; {now}; nothing more was sent from here"));
    Stop::with(Exit::Locked, failure.next(format!("rackctl logs {run}")))
}

/// As the clusters themselves say it now.
pub async fn member_rows(session: &Session, plan: &Plan) -> Vec<[String; 6]> {
    let mut rows = Vec::new();
    for track in &plan.tracks {
        let Subject::Cluster(name) = &track.subject else { continue };
        let Some(cluster) = session.fleet.clusters.get(name) else { continue };
        let ClusterDriver::Etcd { client_port, .. } = cluster.driver else { continue };
        let endpoints: Vec<String> = cluster
            .members
            .iter()
            .filter_map(|m| session.fleet.member_address(m, client_port))
            .map(|a| format!("http://{a}"))
            .collect();
        let Ok(facts) = observe_client::observe(&endpoints).await else { continue };
        for m in &facts.members {
            let role = if m.learner {
                "learner"
            } else if facts.leader.as_ref() == Some(&m.id) {
                "leader"
            } else {
                "voter"
            };
            rows.push([
                name.clone(),
                m.name.clone(),
                m.id.clone(),
                role.to_owned(),
                if m.healthy { "yes" } else { "no" }.to_owned(),
                m.version.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    rows
}

/// Folds notices into bars or lines on standard error, or events on standard output.
struct View {
    progress: Progress,
    jsonl: bool,
    verbose: u8,
    /// Per subject: the step in hand and what it waits for.
    steps: BTreeMap<String, (String, Option<String>)>,
}

impl View {
    fn new(globals: &Globals) -> View {
        View {
            progress: Progress::new(globals.color.stderr || stdout::stderr_is_terminal()),
            jsonl: globals.format == Format::Jsonl,
            verbose: globals.verbose,
            steps: BTreeMap::new(),
        }
    }

    fn show(&mut self, notice: &Notice) {
        match notice {
            Notice::Journal(record) => {
                if self.jsonl
                    && let Ok(text) = serde_json::to_string(record)
                {
                    let _ = stdout::print(&format!("{text}\n"));
                }
                match record.kind {
                    RecordKind::Failed | RecordKind::Result => {
                        if let Some(failure) =
                            record.body.get("failure").and_then(|f| serde_json::from_value::<Failure>(f.clone()).ok())
                        {
                            let again = if record.kind == RecordKind::Result { " (again)" } else { "" };
                            self.progress.note(&secrets::redact(&format!("{}: {failure}{again}", record.step)));
                        }
                    }
                    RecordKind::Done if self.verbose > 0 => self.progress.note(&format!("{}: done", record.step)),
                    _ => {}
                }
            }
            Notice::Trouble(failure) => self.progress.note(&secrets::redact(&failure.to_string())),
            Notice::Tracks(tracks) => {
                for track in tracks {
                    let stage = track.step.clone().unwrap_or_else(|| "done".to_owned());
                    // Said once: an installer's own report of the same step says more.
                    let now = (stage.clone(), track.waiting.clone());
                    if self.steps.insert(track.subject.clone(), now.clone()) == Some(now) {
                        continue;
                    }
                    self.progress.update(&Update {
                        subject: track.subject.clone(),
                        stage,
                        done: Some(track.done as u64),
                        total: Some(track.total as u64),
                        message: track.waiting.clone().filter(|_| track.step.is_some()).unwrap_or_default(),
                    });
                }
            }
            Notice::Netboot(event) => {
                if self.verbose > 0 {
                    self.progress.note(&format!("netboot: {}", serde_json::to_string(event).unwrap_or_default()));
                }
            }
            Notice::Task { node, step, percent } => self.progress.update(&Update {
                subject: node.clone(),
                stage: step.clone(),
                done: Some(u64::from(*percent)),
                total: Some(100),
                message: "the BMC works at it".to_owned(),
            }),
            Notice::Installer { node, stage, done_bytes, total_bytes } => {
                let Some((step, _)) = self.steps.get(node).cloned() else { return };
                if !matches!(step.as_str(), "check-disks" | "write-disk") {
                    return;
                }
                self.progress.update(&Update {
                    subject: node.clone(),
                    stage: step,
                    done: *done_bytes,
                    total: *total_bytes,
                    message: format!("{stage:?}").to_lowercase(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the run hears when the servers take no order, having said `said` before they ended.
    async fn heard(said: &[NetbootEvent], ended: bool) -> Vec<String> {
        let (events_in, events) = mpsc::channel(8);
        let (tables_in, tables) = mpsc::unbounded_channel();
        let (outside_in, mut outside) = mpsc::channel(8);
        let (taken_in, taken) = watch::channel(0);
        for event in said {
            events_in.send(event.clone()).await.unwrap();
        }
        let events_in = (!ended).then_some(events_in);
        tables_in.send(7).unwrap();
        relay(|table| *table != 7, events, tables, taken_in, outside_in).await;
        drop(events_in);
        assert!(taken.has_changed().is_err() && tables_in.send(8).is_err(), "nobody waits for them any more");
        let mut heard = Vec::new();
        while let Some(told) = outside.recv().await {
            match told {
                Outside::Netboot(NetbootEvent::Failed { failure }) => heard.push(failure.why),
                Outside::Netboot(_) => {}
                Outside::Interrupt => heard.push("^C".into()),
            }
        }
        heard
    }

    #[tokio::test]
    async fn the_run_hears_of_the_end_of_its_servers_whoever_sees_it_first() {
        // An order that cannot be written used to end the relay in silence, and the next step to fail its node.
        let ended = ["their process has ended"];
        assert_eq!(heard(&[], true).await, ended);
        assert_eq!(heard(&[NetbootEvent::TableTaken { version: 6 }], true).await, ended);
        assert_eq!(heard(&[], false).await, ended, "also when its pipe stays open");
        let failure = Failure::new(Cause::Local, "boot servers: tftp", "no memory");
        assert_eq!(heard(&[NetbootEvent::Failed { failure }], true).await, ["no memory"]);
    }
}
