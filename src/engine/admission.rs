//! Which node may begin now: waves with canary and soak, one budget over clusters, racks, power feeds and chassis,
//! change windows, and the halt. Pure; who is unavailable is an argument, asked for afresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    model::{
        Failure,
        baseline::BaselinePart,
        failure::Cause,
        power::PowerAction,
        rollout::{Gate, Rollout},
    },
    plan::{Plan, Step, StepId, StepKind, Subject, Track},
};

use super::{
    budget::{Budget, Refusal},
    doors::Doors,
};

mod turns;

/// A look at who is unavailable is believed so long.
pub const FRESH_MS: u64 = 5_000;
/// Nodes that one and the same cause may stop before it is taken for a shared one.
pub const SHARED_CAUSE: usize = 3;
/// Between two looks while something waits for them.
pub(super) const LOOK_AGAIN_MS: u64 = 2_000;
/// How far behind the first that waits another one is looked for, when a full rack or chassis stops the first.
const OVERTAKE: usize = 256;

/// What stands between a node and its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Too much is unavailable, or was until a moment ago, and that comes to its end by itself.
    Budget(String),
    /// Too much is down that this run did not take: nobody knows when it ends.
    Down {
        why: String,
        node: Option<String>,
    },
    Window(String),
    /// Nobody has looked lately.
    Look,
    Halted(String),
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Held::Budget(why) | Held::Window(why) | Held::Halted(why) | Held::Down { why, .. } => f.write_str(why),
            Held::Look => f.write_str("waits for a look at what is unavailable"),
        }
    }
}

/// As [`Held`], without words: found at each event for many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    Halted,
    Window {
        until_ms: Option<u64>,
    },
    /// The last node that served before is not back for long enough.
    Settling,
    Look,
    /// Too much is unavailable; `ours`: that comes to its end by itself.
    Budget {
        ours: bool,
    },
}

impl Bar {
    /// Nobody knows when it ends: [`Held::Down`].
    fn stays(self) -> bool {
        matches!(self, Bar::Window { until_ms: None } | Bar::Budget { ours: false })
    }
}

/// A node's track as admission sees it.
#[derive(Clone, Debug)]
struct Seat {
    node: String,
    disrupts: bool,
    /// It may serve by the time its power is taken, whatever the plan saw of it.
    may_serve: bool,
    site: Option<String>,
}

/// Nodes under one rollout, in the plan's order.
#[derive(Debug)]
struct Line {
    name: String,
    rollout: Rollout,
    /// Nodes of the plan, whatever has become of them.
    total: usize,
    /// Not begun yet.
    queue: VecDeque<usize>,
    /// Begun and not ended.
    in_hand: BTreeSet<usize>,
    ended: usize,
    failed: usize,
    wave: usize,
    /// How many may have begun up to the end of this wave.
    wave_end: usize,
    /// The last wave ended then: soak, then look.
    wave_ended_ms: Option<u64>,
    /// The last node that served before ended then.
    last_end_ms: Option<u64>,
    /// Since then nobody in it may begin because of what is down, and nothing of ours will change that.
    starved_ms: Option<u64>,
    halted: Option<String>,
}

#[derive(Debug)]
pub struct Admission {
    seats: Vec<Option<Seat>>,
    lines: Vec<Line>,
    line_of: BTreeMap<usize, usize>,
    budget: Budget,
    doors: Doors,
    looked_ms: Option<u64>,
    looking: bool,
    /// When the last look began.
    look_began_ms: u64,
    /// The look under way began before a node ended: what it brings is older than that.
    stale_look: bool,
    /// (step word, cause) → nodes that it stopped.
    causes: BTreeMap<(String, String), usize>,
    halted: Option<String>,
}

/// What admission asks the engine to do.
#[derive(Debug, Default)]
pub struct Answer {
    /// Tracks that begin.
    pub begin: Vec<usize>,
    pub look: bool,
    /// Ask again then.
    pub wake_ms: Option<u64>,
    /// Lines that waited too long.
    pub halt: Vec<Failure>,
}

impl Admission {
    /// `begun` and `ended` tell what an earlier process left of each track.
    pub fn new(plan: &Plan, begun: impl Fn(usize) -> bool, ended: impl Fn(usize) -> bool) -> Admission {
        let mut lines: Vec<Line> = Vec::new();
        let mut by_name: BTreeMap<Option<String>, usize> = BTreeMap::new();
        let mut admission = Admission {
            seats: Vec::with_capacity(plan.tracks.len()),
            lines: Vec::new(),
            line_of: BTreeMap::new(),
            budget: Budget::new(plan),
            doors: Doors::new(&plan.windows),
            looked_ms: None,
            looking: false,
            look_began_ms: 0,
            stale_look: false,
            causes: BTreeMap::new(),
            halted: None,
        };
        for (index, track) in plan.tracks.iter().enumerate() {
            let Subject::Node(node) = &track.subject else {
                admission.seats.push(None);
                continue;
            };
            if track.steps.is_empty() {
                admission.seats.push(None);
                continue;
            }
            let line = *by_name.entry(track.pool.clone()).or_insert_with(|| {
                let pool = track.pool.as_ref().and_then(|p| plan.pools.get(p));
                let rollout = pool.map_or_else(Rollout::unbounded, |p| p.rollout.clone());
                let name = track.pool.clone().unwrap_or_else(|| "nodes without a cluster".to_owned());
                lines.push(Line {
                    name,
                    rollout,
                    total: 0,
                    queue: VecDeque::new(),
                    in_hand: BTreeSet::new(),
                    ended: 0,
                    failed: 0,
                    wave: 0,
                    wave_end: 0,
                    wave_ended_ms: None,
                    last_end_ms: None,
                    starved_ms: None,
                    halted: None,
                });
                lines.len() - 1
            });
            let seat = Seat {
                node: node.clone(),
                disrupts: track.disrupts,
                may_serve: may_serve(track),
                site: track.site.clone(),
            };
            let own = &mut lines[line];
            own.total += 1;
            if ended(index) {
                own.ended += 1;
            } else if begun(index) {
                own.in_hand.insert(index);
                if seat.disrupts {
                    admission.budget.take(&seat.node);
                }
            } else {
                own.queue.push_back(index);
            }
            admission.line_of.insert(index, line);
            admission.seats.push(Some(seat));
        }
        for line in &mut lines {
            let begun = line.ended + line.in_hand.len();
            line.wave_end = line.rollout.wave(0, line.total);
            while line.wave_end < begun {
                line.wave += 1;
                line.wave_end += line.rollout.wave(line.wave, line.total);
            }
        }
        admission.lines = lines;
        admission
    }

    /// Somebody waits for his turn.
    pub fn waits(&self) -> bool {
        self.lines.iter().any(|l| !l.queue.is_empty())
    }

    /// Nodes that have begun and not ended.
    pub fn in_hand(&self) -> usize {
        self.lines.iter().map(|l| l.in_hand.len()).sum()
    }

    /// `false`: a node ended since the look began, so that another one is needed.
    pub fn around(&mut self, now_ms: u64, down: BTreeSet<String>) -> bool {
        self.budget.around(down);
        self.looked_ms = Some(now_ms).filter(|_| !self.stale_look);
        self.looking = false;
        !std::mem::take(&mut self.stale_look)
    }

    /// A begun track is through, or failed with `failure` in `step`.
    pub fn end(&mut self, now_ms: u64, track: usize, failure: Option<(&StepId, &Failure, &str)>) -> Option<Failure> {
        let (Some(line), Some(Some(seat))) = (self.line_of.get(&track).copied(), self.seats.get(track)) else {
            return None;
        };
        let own = &mut self.lines[line];
        if !own.in_hand.remove(&track) {
            return None;
        }
        own.ended += 1;
        self.budget.give_back(&seat.node);
        // What it left behind must be seen before anything else is taken away.
        if seat.may_serve {
            own.last_end_ms = Some(now_ms);
            self.looked_ms = None;
            self.stale_look = self.looking;
        }
        if own.in_hand.is_empty() && own.ended >= own.wave_end {
            own.wave_ended_ms = Some(now_ms);
            self.looked_ms = None;
            self.stale_look = self.looking;
        }
        let (step, failure, word) = failure?;
        let same = self.causes.entry((word.to_owned(), format!("{:?}", failure.cause))).or_default();
        *same += 1;
        let shared = *same >= SHARED_CAUSE && self.halted.is_none();
        // Unreachable is not failed: what it did is unknown, and the budget counts it as unavailable.
        if failure.cause != Cause::Unreachable {
            own.failed += 1;
        }
        let limit = own.rollout.halt_after.of(own.total) as usize;
        let mut told = None;
        if own.halted.is_none() && own.failed >= limit && !own.queue.is_empty() {
            let why = format!(
                "{} of {} nodes of {} failed, the last in {step}: {}",
                own.failed, own.total, own.name, failure.why
            );
            own.halted = Some(why.clone());
            told = Some(halt(&own.name, why));
        }
        // A pool that has halted by its own rule does not keep the cause from halting the others.
        if shared && self.lines.iter().any(|l| l.halted.is_none() && !l.queue.is_empty()) {
            let why = format!("{SHARED_CAUSE} nodes failed at {word} in the same way, the last: {}", failure.why);
            self.halted = Some(why.clone());
            told = Some(halt("the run", why));
        }
        told
    }

    /// A node took longer than its rollout allows: it counts as one that failed, and goes on.
    pub fn late(&mut self, track: usize) -> Option<Failure> {
        let line = self.line_of.get(&track).copied()?;
        let own = &mut self.lines[line];
        own.failed += 1;
        if own.halted.is_none() && own.failed >= own.rollout.halt_after.of(own.total) as usize && !own.queue.is_empty()
        {
            let why = format!("a node of {} is stuck: it takes longer than {} s", own.name, own.rollout.deadline_s);
            own.halted = Some(why.clone());
            return Some(halt(&own.name, why));
        }
        None
    }

    /// Seconds that one node may take.
    pub fn deadline_ms(&self, track: usize) -> Option<u64> {
        let line = self.line_of.get(&track)?;
        let disrupts = self.seats.get(track)?.as_ref()?.disrupts;
        // New machines take what their steps take: nobody misses them meanwhile.
        disrupts.then(|| u64::from(self.lines[*line].rollout.deadline_s) * 1_000)
    }

    /// Why nothing of this track begins, in words; `None`: it has begun, or has its turn.
    pub fn why(&self, now_ms: u64, unix_ms: u64, track: usize) -> Option<String> {
        let line = self.line_of.get(&track).copied()?;
        let own = &self.lines[line];
        // Filled in the plan's order, and only ever taken from.
        let at = own.queue.binary_search(&track).ok()?;
        let begun = own.total - own.queue.len();
        if begun + at >= own.wave_end && own.halted.is_none() && self.halted.is_none() {
            return Some(format!("waits for wave {}", own.wave + 1));
        }
        self.held(now_ms, unix_ms, line, track).map(|held| held.to_string())
    }

    fn halted(&self, line: &Line) -> Option<Held> {
        self.halted.as_ref().or(line.halted.as_ref()).map(|why| Held::Halted(format!("halted: {why}")))
    }

    /// Every rule for one track; `None`: it may begin now.
    fn held(&self, now_ms: u64, unix_ms: u64, line: usize, track: usize) -> Option<Held> {
        let own = &self.lines[line];
        let seat = self.seats.get(track)?.as_ref()?;
        match self.bar(now_ms, unix_ms, line, track)? {
            Bar::Halted => self.halted(own),
            Bar::Look => Some(Held::Look),
            Bar::Window { until_ms } => {
                let site = seat.site.as_deref().unwrap_or_default();
                Some(match until_ms.map(crate::model::clock::utc) {
                    Some(until) => Held::Window(format!("waits for the change window of {site}, until {until}")),
                    None => {
                        let why = format!("waits for the change window of {site}, and none is near");
                        Held::Down { why, node: None }
                    }
                })
            }
            Bar::Settling => {
                Some(Held::Budget(format!("waits until the last node was healthy for {} s", own.rollout.min_healthy_s)))
            }
            Bar::Budget { .. } => self.budget.refusal(&seat.node).map(|r| match r.ours {
                true => Held::Budget(r.why),
                false => Held::Down { why: r.why, node: r.down },
            }),
        }
    }

    fn bar(&self, now_ms: u64, unix_ms: u64, line: usize, track: usize) -> Option<Bar> {
        let own = &self.lines[line];
        let seat = self.seats.get(track)?.as_ref()?;
        if self.is_halted(own) {
            return Some(Bar::Halted);
        }
        if let Some(site) = &seat.site
            && let Gate::Shut { until_ms } = self.doors.gate(site, unix_ms)
        {
            return Some(Bar::Window { until_ms });
        }
        if !seat.disrupts {
            return None;
        }
        let healthy = u64::from(own.rollout.min_healthy_s) * 1_000;
        if own.last_end_ms.is_some_and(|ended| now_ms < ended + healthy) {
            return Some(Bar::Settling);
        }
        if self.looked_ms.is_none_or(|at| now_ms > at + FRESH_MS) {
            return Some(Bar::Look);
        }
        self.budget.refuses(&seat.node).map(|ours| Bar::Budget { ours })
    }

    fn is_halted(&self, line: &Line) -> bool {
        self.halted.is_some() || line.halted.is_some()
    }

    /// A look that begins now, unless one is under way.
    pub fn look(&mut self, now_ms: u64) -> bool {
        if std::mem::replace(&mut self.looking, true) {
            return false;
        }
        self.look_began_ms = now_ms;
        true
    }

    pub fn is_looking(&self) -> bool {
        self.looking
    }

    pub fn look_began_ms(&self) -> u64 {
        self.look_began_ms
    }

    /// Whether the track's node may serve, so that the budget has a say in what takes it away.
    pub fn may_serve(&self, track: usize) -> bool {
        self.seats.get(track).and_then(Option::as_ref).is_some_and(|s| s.may_serve)
    }

    /// Right before the request leaves that takes its node away, after a look: why it may not; `None`: it counts as
    /// away from now on.
    pub fn leave(&mut self, track: usize) -> Option<Refusal> {
        let seat = self.seats.get(track).and_then(Option::as_ref)?;
        let refusal = self.budget.may_leave(&seat.node);
        if refusal.is_none() {
            self.budget.leaves(&seat.node);
        }
        refusal
    }

    /// A node of a track whose first step cannot begin any more.
    pub fn drop_waiting(&mut self, track: usize) {
        if let Some(line) = self.line_of.get(&track) {
            let own = &mut self.lines[*line];
            if let Ok(at) = own.queue.binary_search(&track) {
                own.queue.remove(at);
            }
            own.ended += 1;
        }
    }
}

fn may_serve(track: &Track) -> bool {
    let was_there = |step: &Step| match &step.kind {
        StepKind::SetPower { action, .. } => *action != PowerAction::On,
        StepKind::ChangeBmc(change) => change.takes_away(),
        // A machine on which nothing was ever installed has none.
        StepKind::Baseline(BaselinePart::AwaitService { .. }) => true,
        _ => false,
    };
    track.disrupts || track.steps.iter().any(was_there)
}

fn halt(what: &str, why: String) -> Failure {
    Failure::new(Cause::Guard, format!("{what}: halted"), why).next("rackctl resume, or rackctl abort")
}
