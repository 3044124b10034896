//! A process of the tool: what it holds in memory, and what dies with it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use rackctl_wire::{Claim, ClaimAnswer, Directive, Report, Stage};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    drive::Meddle,
    durable::Durable,
    exec::{Ctx, Owner, Topic, awake_ms, never, until, virtual_ms},
    faults::ToolFault,
    log::{Cause as By, What},
    operator::Office,
};
use crate::{
    engine::Event,
    model::{Failure, Fleet, approval::Envelope, facts::NodeRecord, failure::Cause, lease::Gate},
    plan::{Plan, StepKind, Subject, wipe_guard::Target},
    run::{
        CLAIM_VOID,
        desk::{Desk, Order, Verdict},
        keys::Keys,
        past,
    },
    store::{BmcSession, Draft, Fence, Holder, LEASE, Record, RecordKind, Store, StoreError},
};

/// What an installer gets instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Away {
    /// Nobody answers, or `try later`.
    Silent,
    Refused(u16),
}

/// What reaches the loop of a process.
#[derive(Debug)]
pub enum Home {
    Event(Event, Value),
    /// Somebody else holds the locks.
    Fenced(StoreError),
    /// What this host needs for the run is gone.
    Failed(Failure),
}

pub struct Tool {
    pub process: u32,
    pub host: String,
    pub run: String,
    pub fleet: Rc<Fleet>,
    pub keys: Rc<Keys>,
    pub durable: Rc<Durable>,
    pub plan: RefCell<Rc<Plan>>,
    /// Of each step of the plan, in seconds.
    deadlines: RefCell<HashMap<String, u64>>,
    pub fence: RefCell<Rc<Fence>>,
    pub desk: RefCell<Desk>,
    pub offers: RefCell<BTreeMap<String, u32>>,
    pub targets: RefCell<BTreeMap<String, Target>>,
    pub last_reset: RefCell<BTreeMap<String, Option<String>>>,
    pub voters: RefCell<BTreeMap<String, Vec<String>>>,
    /// Its servers are open: what the journal says was taken over before.
    pub serving: Cell<bool>,
    /// What drivers bring home, and what comes from outside.
    pub home: RefCell<VecDeque<Home>>,
    /// Guards are told who is away; a test may keep it from them.
    pub sees: Cell<bool>,
    /// What the engine said to drivers that asked to take a machine away.
    permits: RefCell<BTreeMap<String, Result<(), Failure>>>,
    /// Counts the log-ins at BMCs.
    pub logins: Cell<u64>,
    /// Notes of them that the store could not take.
    unwritten: RefCell<Vec<BmcSession>>,
    pub gate: Gate,
    clock: fn() -> u64,
    /// What a person allowed, and until when (milliseconds since 1970).
    pub approval: RefCell<Option<(Envelope, u64)>>,
    pub meddle: Rc<dyn Meddle>,
    fault: Option<ToolFault>,
    operations: Cell<u64>,
    dead: Cell<bool>,
}

fn killed() -> StoreError {
    StoreError::Failed(Failure::new(Cause::Interrupted, "run", "the process was killed"))
}

impl Tool {
    pub fn new(ctx: &Ctx, process: u32, host: &str, run: &str, office: &Office, fault: Option<ToolFault>) -> Rc<Tool> {
        let durable = Rc::clone(&ctx.world().durable);
        let fleet = &office.fleet;
        let clock = if office.meddle.counts_sleep() { virtual_ms } else { awake_ms };
        durable.lives(process, true);
        let tool = Rc::new(Tool {
            process,
            host: host.to_owned(),
            run: run.to_owned(),
            fleet: Rc::clone(fleet),
            keys: Rc::clone(&office.keys),
            durable,
            plan: RefCell::new(Rc::new(super::fleet::no_plan(fleet))),
            deadlines: RefCell::default(),
            fence: RefCell::new(Rc::new(Fence { locks: Vec::new(), actor: String::new() })),
            desk: RefCell::new(Desk::new(run, fleet)),
            offers: RefCell::default(),
            targets: RefCell::default(),
            last_reset: RefCell::default(),
            voters: RefCell::default(),
            serving: Cell::new(false),
            home: RefCell::default(),
            sees: Cell::new(true),
            permits: RefCell::default(),
            logins: Cell::new(0),
            unwritten: RefCell::default(),
            gate: Gate::new(clock),
            clock,
            meddle: Rc::clone(&office.meddle),
            approval: RefCell::default(),
            fault,
            operations: Cell::new(0),
            dead: Cell::new(false),
        });
        ctx.register(Rc::clone(&tool));
        tool
    }

    pub fn holder(&self) -> Holder {
        self.durable.holder_of(&self.host, self.process)
    }

    pub fn plan(&self) -> Rc<Plan> {
        Rc::clone(&self.plan.borrow())
    }

    /// Takes the plan over: who votes is what it says.
    pub fn begin(&self, plan: Plan) {
        *self.voters.borrow_mut() =
            plan.tracks.iter().map(|t| (t.subject.name().to_owned(), t.voters.clone())).collect();
        *self.deadlines.borrow_mut() = plan.steps().map(|s| (s.id.clone(), s.kind.deadline_s())).collect();
        *self.plan.borrow_mut() = Rc::new(plan);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// The process is gone, at once and whole: what it had in memory, its servers, its tasks.
    pub fn dies(&self, ctx: &Ctx, why: &'static str) {
        if self.dead.replace(true) {
            return;
        }
        self.leaves_unnoted(ctx);
        self.durable.lives(self.process, false);
        self.durable.fail_at(None, false);
        ctx.unregister(self.process);
        let by = By { process: self.process, step: String::new(), attempt: 0 };
        let mut world = ctx.world();
        let now = world.now;
        world.log.push(now, Some(&by), What::ToolDied { why });
        drop(world);
        ctx.kill(Owner::Process(self.process));
        ctx.notify(Topic::Ended(self.process));
    }

    /// It ended by itself.
    pub fn ends(&self, ctx: &Ctx) {
        self.dead.set(true);
        self.leaves_unnoted(ctx);
        self.durable.lives(self.process, false);
        self.durable.fail_at(None, false);
        ctx.unregister(self.process);
        ctx.notify(Topic::Ended(self.process));
    }

    /// A log-in, as `run::sessions` notes it.
    pub fn keep(&self, note: BmcSession) {
        let written = self.durable.store().put_bmc_session(&note).is_ok();
        let mut unwritten = self.unwritten.borrow_mut();
        unwritten.retain(|n| n.name() != note.name());
        if !written {
            unwritten.push(note);
        }
    }

    pub fn forget(&self, note: &BmcSession) {
        self.unwritten.borrow_mut().retain(|n| n.name() != note.name());
        let _ = self.durable.store().drop_bmc_session(note);
    }

    pub fn noted(&self) -> Vec<BmcSession> {
        let (mut all, own) = (self.durable.store().bmc_sessions().unwrap_or_default(), self.unwritten.borrow().clone());
        all.retain(|s| own.iter().all(|o| o.name() != s.name()));
        all.extend(own);
        all
    }

    /// What it alone knew of, and could not close: nobody else can.
    fn leaves_unnoted(&self, ctx: &Ctx) {
        for note in self.unwritten.borrow_mut().drain(..) {
            let mut world = ctx.world();
            let index = world.number.get(&note.node).copied().unwrap_or(usize::MAX);
            if let Some(m) = world.machines.get_mut(index) {
                m.bmc.forgotten += 1;
            }
        }
    }

    /// Counts an operation; this may be the last thing that the process does.
    fn count(&self, ctx: &Ctx) {
        self.operations.set(self.operations.get() + 1);
        if let Some(ToolFault::DiesAt { operation, after: false }) = self.fault
            && operation == self.operations.get()
        {
            self.dies(ctx, "killed before an operation");
        }
    }

    fn counted(&self, ctx: &Ctx) {
        if let Some(ToolFault::DiesAt { operation, after: true }) = self.fault
            && operation == self.operations.get()
        {
            self.dies(ctx, "killed after an operation");
        }
    }

    /// Before each request to the world.
    pub async fn gate(&self, ctx: &Ctx) {
        self.count(ctx);
        if self.is_dead() {
            never::<()>().await;
        }
    }

    /// After its effect, before its answer counts.
    pub async fn passed(&self, ctx: &Ctx) {
        self.counted(ctx);
        if self.is_dead() {
            never::<()>().await;
        }
    }

    pub fn append(&self, ctx: &Ctx, draft: Draft) -> Result<Record, StoreError> {
        self.count(ctx);
        if self.is_dead() {
            return Err(killed());
        }
        let fence = Rc::clone(&self.fence.borrow());
        let record = self.durable.append(&self.run, &self.host, ctx.now(), &fence, draft)?;
        let deadline = self.deadlines.borrow().get(&record.step).copied();
        super::watch::recorded(&mut ctx.world(), self.process, &record, deadline);
        self.counted(ctx);
        if self.is_dead() { Err(killed()) } else { Ok(record) }
    }

    pub fn tell(&self, ctx: &Ctx, home: Home) {
        self.home.borrow_mut().push_back(home);
        ctx.notify(Topic::Home(self.process));
    }

    /// Waits until the step may send what takes its machine away.
    pub async fn leave(&self, ctx: &Ctx, step: &str) -> Result<(), Failure> {
        self.tell(ctx, Home::Event(Event::Ready { step: step.to_owned() }, Value::Null));
        let told = || self.permits.borrow_mut().remove(step);
        until(ctx, Topic::Leave(self.process), told).await
    }

    pub fn let_go(&self, ctx: &Ctx, step: String, word: Result<(), Failure>) {
        self.permits.borrow_mut().insert(step, word);
        ctx.notify(Topic::Leave(self.process));
    }

    /// Renews the lease, and with it the right to send anything.
    pub fn renew(&self, ctx: &Ctx) -> Result<(), StoreError> {
        let fence = Rc::clone(&self.fence.borrow());
        match self.durable.renew((&self.host, self.process), ctx.now(), &fence) {
            Ok(()) => {
                self.gate.renewed((self.clock)(), LEASE.as_millis() as u64);
                Ok(())
            }
            Err(error) => {
                if matches!(error, StoreError::Fenced { .. }) {
                    self.gate.shut();
                }
                Err(error)
            }
        }
    }

    pub fn node_record(&self, node: &str) -> Result<Option<NodeRecord>, Failure> {
        Ok(self.durable.store().node_record(node))
    }

    pub fn offer(&self, ctx: &Ctx, by: &By, node: &str, attempt: Option<u32>) {
        let before = match attempt {
            Some(a) => self.offers.borrow_mut().insert(node.to_owned(), a),
            None => self.offers.borrow_mut().remove(node),
        };
        if before != attempt {
            let node = node.to_owned();
            let what = if attempt.is_some() { What::Offered { node } } else { What::Withdrawn { node } };
            ctx.world().effect(by, what);
        }
    }

    /// Answer of its network-boot servers to this machine: node, token, address of the API.
    pub fn netboot(&self, mac: &str, uuid: Uuid) -> Option<(String, String, String)> {
        let (node, attempt) = self.offers.borrow().iter().find_map(|(name, attempt)| {
            let spec = self.fleet.nodes.get(name)?;
            let same = spec.provision().is_some_and(|i| i.mac.to_string() == mac);
            (same && spec.identity.uuid.is_none_or(|u| u == uuid)).then(|| (name.clone(), *attempt))
        })?;
        let token = self.keys.token(&self.run, &node, attempt);
        Some((node, token, self.host.clone()))
    }

    /// What the wall clock of its host says.
    pub fn unix_ms(&self, ctx: &Ctx) -> u64 {
        self.durable.unix_ms(&self.host, ctx.now())
    }

    fn since_boot(&self, ctx: &Ctx) -> Duration {
        Duration::from_millis(self.durable.boot_ms(&self.host, ctx.now()))
    }

    pub fn until(&self, ctx: &Ctx, seconds: u64) -> Duration {
        self.since_boot(ctx) + Duration::from_secs(seconds)
    }

    pub fn silent_for(&self, ctx: &Ctx, node: &str) -> Option<Duration> {
        self.desk.borrow().silent_for(node, self.since_boot(ctx))
    }

    /// The claim endpoint: what is granted is durable before it is answered.
    pub fn claim(&self, ctx: &Ctx, machine: usize, claim: &Claim) -> Result<ClaimAnswer, Away> {
        let unix_s = self.unix_ms(ctx) / 1_000;
        let verdict = self.desk.borrow_mut().claim(&self.fleet, &self.keys, claim, self.since_boot(ctx), unix_s);
        let answer = match verdict {
            Verdict::Refused { status, .. } => Err(if status >= 500 { Away::Silent } else { Away::Refused(status) }),
            Verdict::Granted { answer, first } => {
                if first {
                    let mut kept = claim.clone();
                    kept.token = String::new();
                    let step = format!("{}/await-claim", claim.node);
                    let draft = fact(&claim.node, step, json!({ "claim": kept }));
                    if self.append(ctx, draft).is_err() {
                        return Err(Away::Silent);
                    }
                    self.desk.borrow_mut().granted(claim.clone());
                    ctx.world().happened(What::Claimed { node: claim.node.clone() });
                }
                Ok(answer)
            }
        };
        ctx.notify(Topic::Desk(self.process, machine));
        answer
    }

    pub fn report(&self, ctx: &Ctx, machine: usize, bearer: &str, report: Report) -> Result<Directive, Away> {
        let (node, stage) = (report.node.clone(), report.stage);
        let answer = self.desk.borrow_mut().report(&self.keys, bearer, report, self.since_boot(ctx));
        ctx.notify(Topic::Desk(self.process, machine));
        match answer {
            Ok(directive) => {
                // The true fence: a ticket leaves only while the locks are ours, in the store, now.
                if matches!(directive, Directive::Write(_) | Directive::Reboot) && self.renew(ctx).is_err() {
                    return Err(Away::Silent);
                }
                if matches!(directive, Directive::Write(_)) && stage == Stage::Ready {
                    let attempt =
                        self.durable.intent(&self.run, &format!("{node}/write-disk")).map_or(1, |i| i.attempt);
                    let by = By { process: self.process, step: format!("{node}/write-disk"), attempt };
                    ctx.world().effect(&by, What::Ticket { node });
                }
                Ok(directive)
            }
            Err((status, _)) => Err(Away::Refused(status)),
        }
    }

    pub fn add_voter(&self, cluster: &str, member: &str) {
        let mut voters = self.voters.borrow_mut();
        let list = voters.entry(cluster.to_owned()).or_default();
        if !list.iter().any(|m| m == member) {
            list.push(member.to_owned());
        }
    }

    /// What an earlier process left in the journal: claims, targets, offers, voters.
    pub fn restore(&self, ctx: &Ctx, records: &[Record]) {
        let past = past(records);
        let done = |id: &str| past.get(id).is_some_and(|p| p.done);
        let plan = self.plan();
        for track in &plan.tracks {
            let node = match &track.subject {
                Subject::Cluster(cluster) => {
                    for step in track.steps.iter().filter(|s| done(&s.id)) {
                        if let StepKind::Bootstrap { member } | StepKind::Promote { member } = &step.kind {
                            self.add_voter(cluster, member);
                        }
                    }
                    continue;
                }
                Subject::Node(node) => node,
            };
            let id = |word: &str| format!("{node}/{word}");
            let Some(boot) = past.get(&id("boot-installer")).filter(|p| p.done || p.intent_open) else { continue };
            let begun = records
                .iter()
                .rposition(|r| r.kind == RecordKind::Intent && r.step == id("boot-installer"))
                .unwrap_or(0);
            if !done(&id("withdraw-netboot")) {
                let until = self.until(ctx, StepKind::AwaitClaim.deadline_s());
                self.desk.borrow_mut().offer(node, boot.attempt, until);
                self.offers.borrow_mut().insert(node.clone(), boot.attempt);
            }
            for fact in records[begun..].iter().filter(|r| r.kind == RecordKind::Fact && r.subject == *node) {
                if let Some(claim) = fact.body.get("claim").and_then(|c| serde_json::from_value(c.clone()).ok()) {
                    self.desk.borrow_mut().restore(claim);
                }
                if fact.body.get(CLAIM_VOID).is_some() {
                    self.desk.borrow_mut().void(node);
                }
                if let Some(target) = fact.body.get("target").and_then(|t| serde_json::from_value(t.clone()).ok()) {
                    self.targets.borrow_mut().insert(node.clone(), target);
                }
            }
            self.desk.borrow_mut().order(node, Order::resumed(done(&id("reboot-to-disk"))));
        }
    }
}

pub fn failed(error: &StoreError) -> Failure {
    match error {
        StoreError::Failed(failure) => failure.clone(),
        other => Failure::new(Cause::Local, "state", other.to_string()),
    }
}

pub fn fact(subject: &str, step: String, body: Value) -> Draft {
    Draft { subject: subject.to_owned(), step, attempt: 1, kind: RecordKind::Fact, body }
}
