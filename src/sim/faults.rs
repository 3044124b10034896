//! What goes wrong, drawn from the seed before anything begins: numbers refer to the fault matrix of the design.

use std::collections::BTreeMap;

use super::rng::Rng;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing.
    None,
    /// The tool dies, once to three times; machines are well.
    Crash,
    /// A few machines of a fleet disappoint.
    Light,
    /// Most of them do, and the tool dies, is stopped and resumed.
    Heavy,
}

impl Profile {
    pub fn parse(word: &str) -> Option<Profile> {
        Some(match word {
            "none" => Profile::None,
            "crash" => Profile::Crash,
            "light" => Profile::Light,
            "heavy" => Profile::Heavy,
            _ => return None,
        })
    }

    pub fn word(self) -> &'static str {
        match self {
            Profile::None => "none",
            Profile::Crash => "crash",
            Profile::Light => "light",
            Profile::Heavy => "heavy",
        }
    }

    /// Permille of machines that have each fault.
    fn machines(self) -> u32 {
        match self {
            Profile::None | Profile::Crash => 0,
            Profile::Light => 8,
            Profile::Heavy => 40,
        }
    }

    fn crashes(self) -> bool {
        matches!(self, Profile::Crash | Profile::Heavy)
    }
}

/// Of one machine and its BMC. Counters say how often it happens; afterwards it is well.
#[derive(Clone, Debug, Default)]
pub struct MachineFaults {
    /// F03: reset accepted, nothing happens.
    pub power_ignored: u32,
    /// F04: carried out, the answer is lost.
    pub answers_lost: u32,
    /// F07: the override reads back as it was.
    pub override_ignored: u32,
    /// F07: set, and the firmware does not care.
    pub override_not_honoured: u32,
    /// F09: `once` is never used up.
    pub sticky: bool,
    /// F08, F12: the BMC restarts: away for a while, override gone.
    pub bmc_restarts_at: Option<u64>,
    /// F16: more time for every answer.
    pub slow_ms: u64,
    /// F16: no answer at all, not even a refusal.
    pub hangs: u32,
    /// F20: the power state is a word that nobody knows.
    pub power_unreadable: bool,
    pub bmc_dead: bool,
    /// F27: the installer never gets as far as its claim.
    pub never_claims: u32,
    /// The answer to a claim is lost on the way.
    pub claim_answers_lost: u32,
    /// F36: the installer gives up while it writes; what was on the disk is gone.
    pub fails_writing: u32,
    /// F36: it falls silent while it writes.
    pub dies_writing: u32,
    /// F38, F39: the installed system does not come up.
    pub hangs_at_boot: u32,
    /// F31, F55: the machine has another disk than the inventory says.
    pub wrong_disk: bool,
    /// F32
    pub foreign_data: bool,
    /// F23, F55: another machine stands at this BMC, or behind this MAC.
    pub swapped: Swapped,
    pub hides_drives: bool,
    /// F41
    pub never_syncs: bool,
    /// F46: `member add` is done and its answer lost.
    pub add_answer_lost: bool,
    /// F44: how wrong the clock of its installed system is.
    pub clock_ms: i64,
    /// F40, F47: its etcd dies so long after it voted, and comes back after the second number.
    pub member_dies: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swapped {
    #[default]
    No,
    /// The BMC tells of the other machine too.
    Whole,
    /// The BMC's cable is right, the machine that boots is another.
    Board,
    /// It is the machine of that number in the inventory.
    With(usize),
}

impl MachineFaults {
    /// It cannot be installed whatever anybody does.
    pub fn hopeless(&self) -> bool {
        self.wrong_disk || self.foreign_data || self.swapped != Swapped::No
    }

    fn draw(rng: &mut Rng, permille: u32) -> MachineFaults {
        let few = |rng: &mut Rng| if rng.chance(permille) { rng.range(1, 3) as u32 } else { 0 };
        let mut f = MachineFaults {
            power_ignored: few(rng),
            answers_lost: few(rng),
            override_ignored: few(rng),
            override_not_honoured: few(rng),
            hangs: few(rng),
            never_claims: few(rng),
            claim_answers_lost: few(rng),
            fails_writing: few(rng),
            dies_writing: few(rng),
            hangs_at_boot: few(rng),
            ..MachineFaults::default()
        };
        let yes = |rng: &mut Rng| rng.chance(permille);
        f.sticky = yes(rng);
        f.bmc_restarts_at = yes(rng).then(|| rng.range(5_000, 600_000));
        f.slow_ms = if yes(rng) { rng.range(1_000, 20_000) } else { 0 };
        f.power_unreadable = yes(rng);
        f.bmc_dead = yes(rng);
        f.wrong_disk = yes(rng);
        f.foreign_data = yes(rng);
        f.hides_drives = rng.chance(permille * 5);
        f.swapped = match (yes(rng), rng.chance(500)) {
            (false, _) => Swapped::No,
            (true, true) => Swapped::Whole,
            (true, false) => Swapped::Board,
        };
        f.never_syncs = yes(rng);
        f.add_answer_lost = yes(rng);
        f.member_dies = yes(rng).then(|| (rng.range(0, 400_000), rng.range(10_000, 600_000)));
        f
    }
}

/// What befalls a process of the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFault {
    /// Killed before its so-manieth operation (journal append or request), or right after it.
    DiesAt {
        operation: u64,
        after: bool,
    },
    /// Killed at this time after its start.
    DiesAfter {
        ms: u64,
    },
    /// ^C at this time after its start.
    InterruptedAfter {
        ms: u64,
    },
    /// `pause` from another terminal, resumed later.
    PausedAfter {
        ms: u64,
    },
    AbortedAfter {
        ms: u64,
    },
    /// The host sleeps from then on for so long.
    Suspended {
        after_ms: u64,
        ms: u64,
    },
    /// F58: the so-manieth write of the store fails, and all after it. `kept`: the first was written for all that, and
    /// only its answer was an error.
    StoreFails {
        write: u64,
        kept: bool,
    },
}

/// Everything that goes wrong in one world.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub machines: BTreeMap<String, MachineFaults>,
    /// For the first process of the tool, the second one, …
    pub tool: Vec<ToolFault>,
    /// F50: rack, when, for how long.
    pub racks: Vec<(String, u64, u64)>,
    /// F54: another operator begins the same at this time.
    pub second_operator: Option<u64>,
    /// F53: the other operator takes over what a sleeping one holds, and ends it.
    pub takes_over: bool,
    /// I16: whose wall clock is set, when, by how much.
    pub clocks: Vec<(&'static str, u64, i64)>,
    /// F57: what becomes of the state after so many processes.
    pub lost: Option<Lost>,
    /// F48: number of a cluster, when, for how long.
    pub alarms: Vec<(usize, u64, u64)>,
    /// F49: number of a cluster, and what its members run.
    pub version: Option<(usize, &'static str)>,
    /// F21: another DHCP server on the network: when, for how long.
    pub rogue: Option<(u64, u64)>,
    /// F43: after a reinstallation somebody puts the old disk back.
    pub old_disk: bool,
    /// F56: what is approved was planned before something changed.
    pub stale_plan: bool,
    /// Power and boot settings are changed by hand in the second act.
    pub errands: bool,
}

/// F57
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// The process after which it happens.
    pub after: u32,
    /// A copy from before that process is put back; else everything is gone.
    pub older: bool,
    /// Host keys that people compare at the console, permille.
    pub known: u32,
}

pub fn draw(seed: u64, profile: Profile, nodes: &[String], racks: &[String]) -> Faults {
    let root = Rng::new(seed).fork("faults");
    let permille = profile.machines();
    let mut faults = Faults::default();
    for node in nodes {
        let mut rng = root.fork(node);
        let drawn = if permille == 0 { MachineFaults::default() } else { MachineFaults::draw(&mut rng, permille) };
        faults.machines.insert(node.clone(), drawn);
    }
    let mut rng = root.fork("tool");
    if profile.crashes() {
        for _ in 0..rng.range(1, 3) {
            faults.tool.push(tool_fault(&mut rng, nodes.len() as u64, profile));
        }
    }
    if permille > 0 && rng.chance(permille * 5) && !racks.is_empty() {
        let rack = rng.pick(racks).cloned().unwrap_or_default();
        faults.racks.push((rack, rng.range(30_000, 900_000), rng.range(20_000, 400_000)));
    }
    if profile != Profile::None && rng.chance(150) {
        faults.second_operator = Some(rng.range(1_000, 900_000));
    }
    faults
}

/// What a world of full variety has besides: drawn from streams of its own, so that plain worlds stay what they are.
pub fn draw_more(seed: u64, profile: Profile, nodes: &[String], faults: &mut Faults) {
    let root = Rng::new(seed).fork("more");
    let mut rng = root.fork("world");
    let often = |p: u32| if profile == Profile::None { 0 } else { p };
    faults.errands = rng.chance(400);
    faults.stale_plan = rng.chance(often(80));
    faults.old_disk = rng.chance(often(150));
    faults.takes_over = rng.chance(often(400));
    if matches!(profile, Profile::Crash | Profile::Heavy) {
        if rng.chance(300) {
            // Longer than any lease.
            let fault = ToolFault::Suspended { after_ms: rng.range(100, 420_000), ms: rng.range(40_000, 1_800_000) };
            let at = rng.below(faults.tool.len() as u64 + 1) as usize;
            faults.tool.insert(at, fault);
            faults.second_operator = faults.second_operator.or(Some(rng.range(10_000, 900_000)));
        }
        if rng.chance(100) {
            let at = rng.below(faults.tool.len() as u64 + 1) as usize;
            let write = rng.range(1, nodes.len() as u64 * 30);
            faults.tool.insert(at, ToolFault::StoreFails { write, kept: rng.chance(500) });
        }
    }
    for host in ["a", "b"] {
        while rng.chance(often(150)) {
            let far = *rng.pick(&[2_000_i64, 60_000, 3_600_000, 400 * 86_400_000]).unwrap_or(&60_000);
            let by = if rng.chance(500) { far } else { -far };
            faults.clocks.push((host, rng.range(0, 1_200_000), by));
        }
    }
    if rng.chance(often(60)) {
        let known = *rng.pick(&[0, 500, 1_000]).unwrap_or(&1_000);
        faults.lost = Some(Lost { after: rng.range(1, 3) as u32, older: rng.chance(500), known });
    }
    let clusters = nodes.len() / 3;
    if profile != Profile::Crash && clusters > 0 {
        if rng.chance(often(60)) {
            let cluster = rng.below(clusters as u64) as usize;
            faults.alarms.push((cluster, rng.range(60_000, 900_000), rng.range(30_000, 900_000)));
        }
        if rng.chance(often(30)) {
            let versions = ["3.4.23", "3.6.4", "3.3.1"];
            let version = *rng.pick(&versions).unwrap_or(&"3.6.4");
            faults.version = Some((rng.below(clusters as u64) as usize, version));
        }
        if rng.chance(often(60)) {
            faults.rogue = Some((rng.range(0, 600_000), rng.range(10_000, 300_000)));
        }
        if nodes.len() > 1 && rng.chance(often(30)) {
            pair(&mut rng, nodes, faults);
        }
        for node in nodes {
            let mut rng = root.fork(node);
            if rng.chance(often(4)) {
                let by = rng.range(60_000, 90_000_000) as i64;
                let clock = if rng.chance(500) { by } else { -by };
                faults.machines.entry(node.clone()).or_default().clock_ms = clock;
            }
        }
    }
}

/// F55: two machines stand in each other's place, as the inventory has it.
fn pair(rng: &mut Rng, nodes: &[String], faults: &mut Faults) {
    let at = rng.below(nodes.len() as u64 - 1) as usize;
    if let [one, other] = &nodes[at..at + 2] {
        faults.machines.entry(one.clone()).or_default().swapped = Swapped::With(at + 1);
        faults.machines.entry(other.clone()).or_default().swapped = Swapped::With(at);
    }
}

pub fn tool_fault(rng: &mut Rng, nodes: u64, profile: Profile) -> ToolFault {
    // About so many operations and so much time a whole run takes.
    let (operations, ms) = (nodes * 60 + 40, 420_000);
    match rng.below(if profile == Profile::Crash { 6 } else { 10 }) {
        0..=3 => ToolFault::DiesAt { operation: rng.range(1, operations), after: rng.chance(500) },
        4 | 5 => ToolFault::DiesAfter { ms: rng.range(100, ms) },
        6 => ToolFault::InterruptedAfter { ms: rng.range(100, ms) },
        7 => ToolFault::Suspended { after_ms: rng.range(100, ms), ms: rng.range(5_000, 300_000) },
        8 => ToolFault::StoreFails { write: rng.range(1, nodes * 30), kept: false },
        _ if rng.chance(500) => ToolFault::PausedAfter { ms: rng.range(100, ms) },
        _ => ToolFault::AbortedAfter { ms: rng.range(100, ms) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_by_the_seed_alone_and_per_machine() {
        let names: Vec<String> = (0..50).map(|i| format!("n{i}")).collect();
        let text = |seed: u64, profile| format!("{:?}", draw(seed, profile, &names, &[]));
        assert_eq!(text(3, Profile::Heavy), text(3, Profile::Heavy));
        assert_ne!(text(3, Profile::Heavy), text(4, Profile::Heavy));
        let none = draw(3, Profile::None, &names, &[]);
        assert!(none.tool.is_empty() && none.machines.values().all(|f| !f.hopeless() && f.power_ignored == 0));
        let fewer = draw(3, Profile::Heavy, &names[..10], &[]);
        let all = draw(3, Profile::Heavy, &names, &[]);
        assert_eq!(format!("{:?}", fewer.machines["n3"]), format!("{:?}", all.machines["n3"]));
    }
}
