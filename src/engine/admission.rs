//! Which node may begin now: waves with canary and soak, one budget over clusters, racks, power feeds and chassis,
//! change windows, and the halt. Pure; who is unavailable is an argument, asked for afresh.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    model::{
        Failure,
        failure::Cause,
        rollout::{Gate, Rollout},
    },
    plan::{Plan, StepId, Subject},
};

use super::{budget::Budget, doors::Doors};

/// A look at who is unavailable is believed so long.
pub const FRESH_MS: u64 = 5_000;
/// Nodes that one and the same cause may stop before it is taken for a shared one.
pub const SHARED_CAUSE: usize = 3;
/// Between two looks while something waits for them.
const LOOK_AGAIN_MS: u64 = 2_000;
/// How far behind the first that waits another one is looked for, when a full rack or chassis stops the first.
const OVERTAKE: usize = 256;

/// What stands between a node and its turn. Looked for at each event and for many nodes: words come later, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Halted,
    Window {
        until_ms: Option<u64>,
    },
    /// The last node that served before is not back for long enough.
    Settling,
    /// Nobody has looked lately.
    Look,
    /// Too much is unavailable.
    Budget,
}

/// A node's track as admission sees it.
#[derive(Clone, Debug)]
struct Seat {
    node: String,
    disrupts: bool,
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
                    halted: None,
                });
                lines.len() - 1
            });
            let seat = Seat { node: node.clone(), disrupts: track.disrupts, site: track.site.clone() };
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

    pub fn around(&mut self, now_ms: u64, down: BTreeSet<String>) {
        self.budget.around(down);
        self.looked_ms = Some(now_ms).filter(|_| !self.stale_look);
        self.looking = false;
        self.stale_look = false;
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
        if seat.disrupts {
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
        if own.halted.is_none() && own.failed >= limit && !own.queue.is_empty() {
            let why = format!(
                "{} of {} nodes of {} failed, the last in {step}: {}",
                own.failed, own.total, own.name, failure.why
            );
            own.halted = Some(why.clone());
            return Some(halt(&own.name, why));
        }
        if shared && self.lines.iter().any(|l| !l.queue.is_empty()) {
            let why = format!("{SHARED_CAUSE} nodes failed at {word} in the same way, the last: {}", failure.why);
            self.halted = Some(why.clone());
            return Some(halt("the run", why));
        }
        None
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
        self.held(now_ms, unix_ms, line, track).map(|held| self.words(held, line, track))
    }

    fn words(&self, held: Held, line: usize, track: usize) -> String {
        let own = &self.lines[line];
        let seat = self.seats.get(track).and_then(Option::as_ref);
        match held {
            Held::Halted => {
                format!("halted: {}", self.halted.as_ref().or(own.halted.as_ref()).map_or("", String::as_str))
            }
            Held::Window { until_ms } => {
                let until = until_ms
                    .map_or("and none is near".to_owned(), |at| format!("until {}", crate::model::clock::utc(at)));
                let site = seat.and_then(|s| s.site.as_deref()).unwrap_or_default();
                format!("waits for the change window of {site}, {until}")
            }
            Held::Settling => {
                format!("waits until the last node was healthy for {} s", own.rollout.min_healthy_s)
            }
            Held::Look => "waits for a look at what is unavailable".to_owned(),
            Held::Budget => seat.and_then(|s| self.budget.refusal(&s.node)).unwrap_or_default(),
        }
    }

    fn is_halted(&self, line: &Line) -> bool {
        self.halted.is_some() || line.halted.is_some()
    }

    /// Every rule for one track; `None`: it may begin now.
    fn held(&self, now_ms: u64, unix_ms: u64, line: usize, track: usize) -> Option<Held> {
        let own = &self.lines[line];
        let seat = self.seats.get(track)?.as_ref()?;
        if self.is_halted(own) {
            return Some(Held::Halted);
        }
        if let Some(site) = &seat.site
            && let Gate::Shut { until_ms } = self.doors.gate(site, unix_ms)
        {
            return Some(Held::Window { until_ms });
        }
        if !seat.disrupts {
            return None;
        }
        let healthy = u64::from(own.rollout.min_healthy_s) * 1_000;
        if own.last_end_ms.is_some_and(|ended| now_ms < ended + healthy) {
            return Some(Held::Settling);
        }
        if self.looked_ms.is_none_or(|at| now_ms > at + FRESH_MS) {
            return Some(Held::Look);
        }
        (!self.budget.allows(&seat.node)).then_some(Held::Budget)
    }

    /// Lets in what may begin now, `room` tracks at most.
    pub fn admit(&mut self, now_ms: u64, unix_ms: u64, mut room: usize) -> Answer {
        let mut answer = Answer::default();
        self.doors.look(unix_ms);
        for index in 0..self.lines.len() {
            self.next_wave(now_ms, index, &mut answer);
            while room > 0 {
                let Some(at) = self.next(now_ms, unix_ms, index, &mut answer) else { break };
                room -= 1;
                let own = &mut self.lines[index];
                let Some(track) = own.queue.remove(at) else { break };
                own.in_hand.insert(track);
                if let Some(Some(seat)) = self.seats.get(track)
                    && seat.disrupts
                {
                    self.budget.take(&seat.node);
                }
                answer.begin.push(track);
            }
        }
        answer
    }

    /// Place in its line of a track that may begin now: the first one, or one behind it that is held by nothing.
    fn next(&mut self, now_ms: u64, unix_ms: u64, index: usize, answer: &mut Answer) -> Option<usize> {
        let own = &self.lines[index];
        let begun = own.total - own.queue.len();
        let reach = own.wave_end.saturating_sub(begun).min(own.queue.len()).min(OVERTAKE);
        for at in 0..reach {
            match self.held(now_ms, unix_ms, index, own.queue[at]) {
                None => return Some(at),
                Some(Held::Look) => {
                    answer.look |= !std::mem::replace(&mut self.looking, true);
                    return None;
                }
                Some(Held::Halted) => return None,
                // Another machine of its rack or chassis is away: one of another rack may go first.
                Some(_) => wake(answer, now_ms + LOOK_AGAIN_MS),
            }
        }
        None
    }

    /// The next wave opens when the one before has ended, soaked, and left the pool as healthy as its budget asks.
    fn next_wave(&mut self, now_ms: u64, index: usize, answer: &mut Answer) {
        let own = &self.lines[index];
        let Some(ended) = own.wave_ended_ms else { return };
        if own.queue.is_empty() || self.is_halted(own) {
            return;
        }
        let soaked = ended + u64::from(own.rollout.soak_s) * 1_000;
        if now_ms < soaked {
            return wake(answer, soaked);
        }
        let disrupts = own.queue.front().and_then(|t| self.seats[*t].as_ref()).is_some_and(|s| s.disrupts);
        if disrupts && self.looked_ms.is_none_or(|at| at < soaked) {
            answer.look |= !std::mem::replace(&mut self.looking, true);
            return;
        }
        let own = &mut self.lines[index];
        own.wave += 1;
        own.wave_end += own.rollout.wave(own.wave, own.total);
        own.wave_ended_ms = None;
    }

    /// What waits in pools that are halted.
    pub fn give_up_halted(&mut self) -> Vec<usize> {
        let whole = self.halted.is_some();
        self.lines
            .iter_mut()
            .filter(|l| whole || l.halted.is_some())
            .flat_map(|l| l.queue.drain(..).collect::<Vec<_>>())
            .collect()
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

fn wake(answer: &mut Answer, at_ms: u64) {
    answer.wake_ms = Some(answer.wake_ms.map_or(at_ms, |old| old.min(at_ms)));
}

fn halt(what: &str, why: String) -> Failure {
    Failure::new(Cause::Guard, format!("{what}: halted"), why).next("rackctl resume, or rackctl abort")
}
