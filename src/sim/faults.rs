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
    /// The so-manieth write of the store fails.
    StoreFails {
        write: u64,
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

pub fn tool_fault(rng: &mut Rng, nodes: u64, profile: Profile) -> ToolFault {
    // About so many operations and so much time a whole run takes.
    let (operations, ms) = (nodes * 60 + 40, 420_000);
    match rng.below(if profile == Profile::Crash { 6 } else { 10 }) {
        0..=3 => ToolFault::DiesAt { operation: rng.range(1, operations), after: rng.chance(500) },
        4 | 5 => ToolFault::DiesAfter { ms: rng.range(100, ms) },
        6 => ToolFault::InterruptedAfter { ms: rng.range(100, ms) },
        7 => ToolFault::Suspended { after_ms: rng.range(100, ms), ms: rng.range(5_000, 300_000) },
        8 => ToolFault::StoreFails { write: rng.range(1, nodes * 30) },
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
