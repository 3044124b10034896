//! What is drawn from a seed: for each case a verb, the ways to the BMC, and one to three lies.

/// Pseudo-random numbers: SplitMix64, so that a seed means the same on every host.
pub struct Dice(u64);

impl Dice {
    /// One of its own for each case: a case is the same whether it is drawn alone or among all.
    pub fn of(seed: u64, case: u64) -> Dice {
        Dice(seed ^ case.wrapping_mul(0xA076_1D64_78BD_642F))
    }
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}

/// What is asked of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Status,
    On,
    /// `--force`
    Off,
    /// The operating system is asked.
    Shut,
    /// `--force`
    Cycle,
    Set,
    Clear,
    Update,
}

impl Verb {
    pub const ALL: [Verb; 8] =
        [Verb::Status, Verb::On, Verb::Off, Verb::Shut, Verb::Cycle, Verb::Set, Verb::Clear, Verb::Update];

    /// The label of its machines.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Status => "status",
            Verb::On => "on",
            Verb::Off => "off",
            Verb::Shut => "shut",
            Verb::Cycle => "cycle",
            Verb::Set => "set",
            Verb::Clear => "clear",
            Verb::Update => "update",
        }
    }
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Verb::Status => &["power", "status"],
            Verb::On => &["power", "on"],
            Verb::Off => &["power", "off", "--force", "--yes"],
            Verb::Shut => &["power", "off", "--yes"],
            Verb::Cycle => &["power", "cycle", "--force", "--yes"],
            Verb::Set => &["boot", "set", "pxe"],
            Verb::Clear => &["boot", "set", "none"],
            Verb::Update => {
                &["bmc", "firmware", "--update", "http://192.0.2.1/nic-2.5.1.bin", "--item", "NIC1", "--yes"]
            }
        }
    }
    /// Whether the machine is on before.
    pub fn begins_on(self) -> bool {
        matches!(self, Verb::Off | Verb::Shut | Verb::Cycle)
    }
}

/// Endpoints in the inventory, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    Redfish,
    RedfishThenIpmi,
    Ipmi,
}

/// One case: what the machine is asked, and how its BMC lies. Lies are faults as `lab bmc set` takes them, and three that
/// are no faults of the BMC's: `@other-key` (not the pinned one), `@old-password` (changed behind the inventory's back),
/// `@silent` (nothing listens for Redfish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub number: usize,
    pub verb: Verb,
    pub ways: Ways,
    pub lies: Vec<&'static str>,
}

impl Case {
    pub fn has(&self, lie: &str) -> bool {
        self.lies.iter().any(|l| *l == lie || l.split('=').next() == Some(lie))
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "case {}: {} over {:?} [{}]", self.number, self.verb.word(), self.ways, self.lies.join(" "))
    }
}

use Verb::{Clear, Cycle, Off, On, Set, Shut, Status, Update};

const ALL: &[Verb] = &Verb::ALL;
const POWER: &[Verb] = &[On, Off, Shut, Cycle];
const BOOT: &[Verb] = &[Set, Clear];
const ACTS: &[Verb] = &[On, Off, Shut, Cycle, Set, Clear, Update];

/// A group of lies for some verbs. A group is drawn first, then one of it: what kind of lie is likely does not depend on
/// how many there are of the kind.
struct Group {
    weight: usize,
    verbs: &'static [Verb],
    /// Needs Redfish, needs IPMI; both `false`: whatever the way.
    redfish: bool,
    ipmi: bool,
    lies: &'static [&'static str],
}

const fn redfish(weight: usize, verbs: &'static [Verb], lies: &'static [&'static str]) -> Group {
    Group { weight, verbs, redfish: true, ipmi: false, lies }
}
const fn ipmi(weight: usize, verbs: &'static [Verb], lies: &'static [&'static str]) -> Group {
    Group { weight, verbs, redfish: false, ipmi: true, lies }
}
const fn any(weight: usize, verbs: &'static [Verb], lies: &'static [&'static str]) -> Group {
    Group { weight, verbs, redfish: false, ipmi: false, lies }
}

const GROUPS: &[Group] = &[
    // Sessions and accounts.
    redfish(
        8,
        ALL,
        &[
            "no-sessions",
            "session-cap=1",
            "session-cap=0",
            "session-timeout=1s",
            "session-drop=3",
            "session-drop=7",
            "session-delete-401",
            "session-no-location",
            "log-in-delay=500ms",
        ],
    ),
    any(4, ALL, &["account-lockout=2/30s", "account-lockout=3/600s", "lockout-403"]),
    any(3, ALL, &["@old-password", "@other-key", "password-expired"]),
    // The HTTP server.
    redfish(
        8,
        ALL,
        &[
            "slow=150ms",
            "slow=400ms",
            "slow-body=300ms",
            "busy=3",
            "busy-silent=2",
            "page-size=1",
            "expand-refused",
            "expand-bare",
            "links-slash",
            "links-lower-case",
            "error-html",
            "error-bare",
            "gzip-always",
        ],
    ),
    redfish(4, ALL, &["busy=7", "busy=60", "redirect", "links-away", "@silent"]),
    redfish(
        3,
        ALL,
        &[
            "hostile-body=oversized",
            "hostile-body=nested",
            "hostile-body=not-json",
            "hostile-body=truncated",
            "hostile-body=short-length",
            "hostile-body=long-length",
            "hostile-body=html",
            "forbidden=/redfish/v1/Systems",
            "root-no-links",
        ],
    ),
    // Resources: names, nulls, words that nobody knows.
    redfish(
        8,
        ALL,
        &[
            "enums-null",
            "enums-unknown",
            "fields-missing",
            "dates-zero",
            "uuid-empty",
            "serial-placeholder",
            "members-null",
            "root-no-vendor",
            "second-system",
            "action-info",
            "reset-unlisted",
            "system-id=System.Embedded.1",
            "manager-id=Self",
            "maker=HPE",
            "maker=Supermicro",
            "root-vendor=AMI",
        ],
    ),
    // ETags.
    redfish(
        8,
        BOOT,
        &[
            "if-match-required=standard",
            "if-match-required=ami",
            "if-match-refused",
            "etag-missing",
            "etag-body-only",
            "etag-weak",
            "etag-gzip",
            "etag-unquoted",
        ],
    ),
    // The override.
    redfish(
        10,
        BOOT,
        &[
            "boot-settings=SD",
            "boot-settings=Pending",
            "boot-mode-read-only",
            "boot-mode-reverts",
            "boot-no-mode",
            "boot-400-applied",
            "boot-enabled-required",
            "boot-enabled-unchanged-400",
            "boot-no-continuous",
            "boot-uri-missing",
            "boot-order-refused",
            "boot-option-null",
            "post-lock=4s",
            "boot-targets=None,Pxe,Hdd",
        ],
    ),
    redfish(
        7,
        BOOT,
        &[
            "boot-disabled-after-200",
            "boot-pxe-is-next",
            "boot-full-set-required",
            "boot-no-override",
            "boot-targets=None,Hdd,Cd",
        ],
    ),
    any(6, BOOT, &["ignore-boot-override", "boot-sticky", "boot-lost-at-reset", "boot-not-honoured"]),
    // Power.
    any(12, POWER, &["power-lag=200ms", "power-lag=LAG", "power-lag=LAG2", "power-off-time=1s", "lose-reset-answer"]),
    redfish(
        8,
        POWER,
        &[
            "power-on-conflict=4s",
            "power-on-twice-409",
            "reset-busy=2s",
            "reset-types=On,ForceOff,ForceRestart,GracefulShutdown",
            "reset-types=On,ForceOff",
            "reset-types=On,Off,GracefulShutdown",
            "reset-types=On,GracefulShutdown",
        ],
    ),
    any(4, POWER, &["power-noop", "shutdown-ignored"]),
    // Not where a restart that was broken off is finished on the way out, with minutes for each try.
    redfish(3, &[On, Off, Shut], &["power-stuck", "power-null", "power-unknown"]),
    redfish(2, &[Status], &["power-null", "power-unknown"]),
    // Tasks.
    redfish(
        16,
        &[Update],
        &["task-vanishes", "task-no-location", "task-job-ids", "task-time=3s", "task-fails", "task-endless"],
    ),
    // IPMI.
    ipmi(
        14,
        ALL,
        &[
            "ipmi-no-suite-17",
            "ipmi-privilege=operator",
            "ipmi-no-parameter-3",
            "ipmi-small-reads",
            "ipmi-busy=4",
            "ipmi-slow=300ms",
            "ipmi-sequence=swapped",
        ],
    ),
    ipmi(6, &[Status, Set, Clear], &["ipmi-drop=4", "ipmi-session-drop=4"]),
    ipmi(
        5,
        ALL,
        &[
            "ipmi-old",
            "ipmi-privilege=user",
            "ipmi-other-password",
            "ipmi-busy=60",
            "ipmi-no-room=1",
            "ipmi-sequence=same",
        ],
    ),
    // Ten seconds each time: not where a node that cannot be left safe is tried five times more.
    ipmi(4, &[Status, On, Update], &["ipmi-off", "ipmi-mute=rakp2"]),
    ipmi(6, BOOT, &["ipmi-boot-ignored", "ipmi-boot-invalid"]),
    // Nothing that matters for what is asked.
    redfish(4, ACTS, &["hide-drives", "drives-no-serial", "log-entries=50", "media-patch-only", "bios-settings=SD"]),
];

/// Two that are not drawn together, because who comes first is a matter of the clock or of the other machines.
const APART: &[(&str, &str)] = &[
    // Without sessions nothing is asked at the log-in, unless the password was not taken anywhere yet.
    ("no-sessions", "redirect"),
    ("no-sessions", "links-away"),
    // The words of an error are what tells "not now"; whether it is still now depends on the lag.
    ("reset-busy", "error-html"),
    ("reset-busy", "error-bare"),
    ("post-lock", "error-html"),
    ("post-lock", "error-bare"),
    // Pauses of seconds that add up to more than a step has.
    ("busy-silent", "session-cap"),
    ("slow", "slow-body"),
    ("@other-key", "@silent"),
    // A transition that never ends, seen by the one way and not by the other.
    ("power-stuck", "busy"),
];

/// Draws one case. `lags`: the texts of `LAG` and `LAG2`.
pub fn case(seed: u64, number: usize, lags: [&'static str; 2]) -> Case {
    let mut dice = Dice::of(seed, number as u64);
    let verb = Verb::ALL[dice.below(Verb::ALL.len())];
    let ways = match dice.below(100) {
        0..70 => Ways::Redfish,
        70..85 => Ways::RedfishThenIpmi,
        _ => Ways::Ipmi,
    };
    let mut case = Case { number, verb, ways, lies: Vec::new() };
    let fits = |g: &&Group| {
        g.verbs.contains(&verb) && !(g.redfish && ways == Ways::Ipmi) && !(g.ipmi && ways == Ways::Redfish)
    };
    let groups: Vec<&Group> = GROUPS.iter().filter(fits).collect();
    let whole: usize = groups.iter().map(|g| g.weight).sum();
    let wanted = 1 + dice.below(3);
    for _ in 0..64 {
        if case.lies.len() == wanted {
            break;
        }
        let mut at = dice.below(whole);
        let group = groups.iter().find(|g| {
            let here = at < g.weight;
            at = at.wrapping_sub(g.weight);
            here
        });
        let Some(group) = group else { continue };
        let lie = match group.lies[dice.below(group.lies.len())] {
            "power-lag=LAG" => lags[0],
            "power-lag=LAG2" => lags[1],
            lie => lie,
        };
        if goes_with(&case, lie) {
            case.lies.push(lie);
        }
    }
    case
}

fn name(lie: &str) -> &str {
    lie.split('=').next().unwrap_or(lie)
}

fn goes_with(case: &Case, lie: &'static str) -> bool {
    // The key is Redfish's; IPMI has none.
    let senseless = match (name(lie), case.ways) {
        ("@other-key" | "password-expired", Ways::Ipmi) => true,
        ("power-stuck", ways) => ways != Ways::Redfish,
        _ => false,
    };
    let apart = |other: &str| APART.iter().any(|(a, b)| [(name(lie), other), (other, name(lie))].contains(&(*a, *b)));
    !senseless && !case.lies.iter().any(|l| name(l) == name(lie) || apart(name(l)))
}
