//! What a power verb sends: which moves, in which order, and which ResetType brings each about, of those that the BMC
//! allows. Pure, and the same for the sending and for the preview.

use super::{boot::Write, read::SystemView, redfish::wire::ResetRequest};
use crate::model::{
    Failure,
    failure::Cause,
    power::{PowerAction, PowerState},
};

/// ResetType words for an action, best first (DSP8010, Resource.ResetType).
fn words(action: PowerAction) -> &'static [&'static str] {
    match action {
        PowerAction::On => &["On", "ForceOn"],
        PowerAction::GracefulShutdown => &["GracefulShutdown"],
        // Cray EX says `Off`.
        PowerAction::ForceOff => &["ForceOff", "Off"],
        PowerAction::ForceRestart => &["ForceRestart", "PowerCycle"],
        PowerAction::GracefulRestart => &["GracefulRestart"],
        // HPE and AMI have no PowerCycle.
        PowerAction::PowerCycle => &["PowerCycle", "ForceRestart"],
    }
}

/// Pressing it shuts down what is on and switches on what is off, so it is chosen only where it is the only way, and
/// only as long as the state is known in which it is pressed.
const BUTTON: &str = "PushPowerButton";

fn by_button(action: PowerAction) -> Option<PowerState> {
    match action {
        PowerAction::On => Some(PowerState::Off),
        PowerAction::GracefulShutdown => Some(PowerState::On),
        _ => None,
    }
}

/// The word to send, for a machine in the state `now`. Where the BMC does not say what it allows, Redfish's first word is
/// tried.
pub fn choose(action: PowerAction, allowed: &[String], now: PowerState) -> Result<&'static str, String> {
    let words = words(action);
    let listed = |word: &str| allowed.iter().any(|a| a == word);
    let found = if allowed.is_empty() { words.first() } else { words.iter().find(|w| listed(w)) };
    let button = || (listed(BUTTON) && by_button(action) == Some(now)).then_some(BUTTON);
    found.copied().or_else(button).ok_or_else(|| lacks(action, &told(allowed)))
}

fn told(allowed: &[String]) -> String {
    format!("it allows: {}", super::redfish::json::clean(&allowed.join(", ")))
}

fn lacks(action: PowerAction, told: &str) -> String {
    format!("the BMC allows no `{}`; {told}", words(action).join("` or `"))
}

/// The request, for a machine in the state `now`.
pub fn request_in(view: &SystemView, action: PowerAction, now: PowerState) -> Result<Write, String> {
    let kind = choose(action, &view.reset_types, now)?;
    let reset = view.system.actions.as_ref().and_then(|a| a.reset.as_ref()).ok_or("the system has no Reset action")?;
    let fallback = || format!("{}/Actions/ComputerSystem.Reset", view.path.trim_end_matches('/'));
    let path = reset.target.clone().filter(|t| !t.is_empty()).unwrap_or_else(fallback);
    let body = serde_json::to_value(ResetRequest { kind: Some(kind.to_owned()) }).unwrap_or_default();
    Ok(Write { method: "POST", path, body, if_match: None })
}

/// The request, for the machine as the view shows it.
pub fn request(view: &SystemView, action: PowerAction) -> Result<Write, String> {
    request_in(view, action, super::read::power(view.system.power))
}

/// What is asked by a power verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub action: PowerAction,
    /// Without asking the operating system.
    pub force: bool,
    /// Until the machine is seen in that state.
    pub wait: bool,
}

/// What a BMC offers, as far as it decides how a wish comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Can {
    pub now: PowerState,
    pub offers: Vec<PowerAction>,
    /// It keeps a time of the last reset, by which a restart is seen.
    pub marks: bool,
    /// What it offers, in words.
    pub told: String,
}

pub const ACTIONS: [PowerAction; 6] = [
    PowerAction::On,
    PowerAction::GracefulShutdown,
    PowerAction::ForceOff,
    PowerAction::ForceRestart,
    PowerAction::GracefulRestart,
    PowerAction::PowerCycle,
];

/// What the BMC behind `view` offers. The button counts for both of its meanings.
pub fn can(view: &SystemView) -> Can {
    let allowed = &view.reset_types;
    let offered =
        |action: &PowerAction| choose(*action, allowed, by_button(*action).unwrap_or(PowerState::Unknown)).is_ok();
    Can {
        now: super::read::power(view.system.power),
        offers: ACTIONS.into_iter().filter(offered).collect(),
        marks: mark(&view.system.last_reset).is_some(),
        told: told(allowed),
    }
}

/// `LastResetTime`, where it is one: a BMC without a clock says 0000-00-00 for ever.
pub fn mark(last_reset: &Option<String>) -> Option<String> {
    super::read::text(last_reset).filter(|t| t.chars().any(|c| matches!(c, '1'..='9')))
}

/// How far a machine has come, of the words that stand in a fixed order (DSP8010, ComputerSystem.BootProgressTypes).
pub fn progress(word: Option<&str>) -> Option<usize> {
    const WORDS: [&str; 10] = [
        "None",
        "PrimaryProcessorInitializationStarted",
        "BusInitializationStarted",
        "MemoryInitializationStarted",
        "SecondaryProcessorInitializationStarted",
        "PCIResourceConfigStarted",
        "SystemHardwareInitializationComplete",
        "SetupEntered",
        "OSBootStarted",
        "OSRunning",
    ];
    WORDS.iter().position(|known| Some(*known) == word)
}

/// One thing that is brought about, and waited for unless it is said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    On,
    /// The operating system is asked.
    ShutDown,
    Cut,
    /// One request that does both, seen by what the BMC shows of a restart.
    Restart(PowerAction),
    /// Sent, and not waited for.
    Send(PowerAction),
}

impl Move {
    pub fn action(self) -> PowerAction {
        match self {
            Move::On => PowerAction::On,
            Move::ShutDown => PowerAction::GracefulShutdown,
            Move::Cut => PowerAction::ForceOff,
            Move::Restart(action) | Move::Send(action) => action,
        }
    }

    /// Whether the state must come to be on; `None`: it is not waited for one.
    pub fn ends_on(self) -> Option<bool> {
        match self {
            Move::On => Some(true),
            Move::ShutDown | Move::Cut => Some(false),
            Move::Restart(_) | Move::Send(_) => None,
        }
    }
}

/// The moves that a wish comes to at this BMC; `None`: it offers no way.
fn found(wish: Wish, can: &Can) -> Option<Vec<Move>> {
    use PowerAction::{ForceOff, ForceRestart, GracefulRestart, GracefulShutdown, On, PowerCycle};
    let offers = |action: PowerAction| can.offers.contains(&action);
    let apart = |off: Move| (offers(off.action()) && offers(On)).then(|| vec![off, Move::On]);
    let off = if forced(wish) { Move::Cut } else { Move::ShutDown };
    match wish.action {
        action if !wish.wait => offers(action).then(|| vec![Move::Send(action)]),
        On => offers(On).then(|| vec![Move::On]),
        GracefulShutdown | ForceOff => offers(off.action()).then(|| vec![off]),
        PowerCycle => apart(off),
        // One that could not be seen is made of parts that can.
        ForceRestart | GracefulRestart => {
            let whole = offers(wish.action).then(|| vec![Move::Restart(wish.action)]);
            if can.marks { whole.or_else(|| apart(off)) } else { apart(off).or(whole) }
        }
    }
}

fn forced(wish: Wish) -> bool {
    match wish.action {
        PowerAction::ForceOff | PowerAction::ForceRestart => true,
        PowerAction::PowerCycle => wish.force,
        _ => false,
    }
}

/// The moves that a wish comes to at this BMC.
///
/// # Errors
/// `Refused`: the BMC offers no way, and nothing was sent; the next command is one that it offers.
pub fn moves(node: &str, wish: Wish, can: &Can) -> Result<Vec<Move>, Failure> {
    use PowerAction::{ForceOff, ForceRestart, GracefulRestart, GracefulShutdown, On, PowerCycle};
    if let Some(moves) = found(wish, can) {
        return Ok(moves);
    }
    let (verb, other) = match wish.action {
        On => ("on", On),
        GracefulShutdown => ("off", ForceOff),
        ForceOff => ("off", GracefulShutdown),
        GracefulRestart => ("reset", ForceRestart),
        ForceRestart => ("reset", GracefulRestart),
        PowerCycle => ("cycle", PowerCycle),
    };
    let other = Wish { action: other, force: !wish.force, wait: true };
    let command = |wish: Wish| {
        let force = if forced(wish) { " --force" } else { "" };
        format!("rackctl power {verb} {node}{force}")
    };
    let others = [Wish { wait: true, ..wish }, other];
    let next = others.into_iter().find(|other| found(*other, can).is_some()).map(command);
    // Of two moves, the one that is not offered.
    let off = if forced(wish) { ForceOff } else { GracefulShutdown };
    let missing = match wish.action {
        PowerCycle if wish.wait => {
            if can.offers.contains(&off) {
                On
            } else {
                off
            }
        }
        action => action,
    };
    let next = next.unwrap_or_else(|| format!("rackctl bmc info {node}"));
    Err(Failure::new(Cause::Refused, format!("{node}: power {verb}"), lacks(missing, &can.told)).next(next))
}

/// What the moves send to a machine in the state `now`: each action with the state in which it will be sent. A move whose
/// end is there already sends nothing.
pub fn sends(moves: &[Move], mut now: PowerState) -> Vec<(PowerAction, PowerState)> {
    let mut list = Vec::new();
    for one in moves {
        match one.ends_on() {
            Some(on) if reached(on, now) => continue,
            Some(on) => {
                // The button wants to know where it is pressed: an unknown state is the one that is left.
                let from = if now == PowerState::Unknown && !on { PowerState::On } else { now };
                list.push((one.action(), from));
                now = if on { PowerState::On } else { PowerState::Off };
            }
            None => list.push((one.action(), now)),
        }
    }
    list
}

/// Whether the state is the wished one: a transition counts as neither.
pub fn reached(on: bool, state: PowerState) -> bool {
    matches!((on, state), (true, PowerState::On) | (false, PowerState::Off))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn vendors_lists() {
        let ami = list(&["On", "ForceOff", "ForceRestart", "GracefulShutdown"]);
        assert_eq!(choose(PowerAction::PowerCycle, &ami, PowerState::On), Ok("ForceRestart"));
        assert!(
            choose(PowerAction::GracefulRestart, &ami, PowerState::On)
                .is_err_and(|e| e.contains("GracefulRestart") && e.contains("ForceOff"))
        );
        let cray = list(&["On", "Off"]);
        assert_eq!(choose(PowerAction::ForceOff, &cray, PowerState::On), Ok("Off"));
        assert_eq!(choose(PowerAction::ForceOff, &[], PowerState::On), Ok("ForceOff"));
        assert_eq!(choose(PowerAction::On, &list(&["ForceOn"]), PowerState::Off), Ok("ForceOn"));
    }

    #[test]
    fn the_button_is_pressed_where_it_is_the_only_way_and_its_meaning_is_known() {
        let button = list(&["ForceOff", "PushPowerButton"]);
        assert_eq!(choose(PowerAction::On, &button, PowerState::Off), Ok("PushPowerButton"));
        assert_eq!(choose(PowerAction::GracefulShutdown, &button, PowerState::On), Ok("PushPowerButton"));
        // Pressed now it would do the contrary, or nobody knows what.
        for now in [PowerState::On, PowerState::PoweringOff, PowerState::Unknown] {
            assert!(choose(PowerAction::On, &button, now).is_err(), "{now:?}");
        }
        for now in [PowerState::Off, PowerState::PoweringOn, PowerState::Unknown] {
            assert!(choose(PowerAction::GracefulShutdown, &button, now).is_err(), "{now:?}");
        }
        let both = list(&["On", "GracefulShutdown", "PushPowerButton"]);
        assert_eq!(choose(PowerAction::GracefulShutdown, &both, PowerState::On), Ok("GracefulShutdown"));
        assert!(choose(PowerAction::ForceRestart, &button, PowerState::On).is_err());
    }

    fn at(offers: &[PowerAction], marks: bool) -> Can {
        Can { now: PowerState::On, offers: offers.to_vec(), marks, told: "it allows: some".into() }
    }

    fn wish(action: PowerAction, wait: bool) -> Wish {
        Wish { action, force: matches!(action, PowerAction::ForceOff | PowerAction::ForceRestart), wait }
    }

    // fault: F3 invariant: I15 harness: D
    #[test]
    fn a_restart_that_could_not_be_seen_is_made_of_parts_that_can() {
        use PowerAction::{ForceOff, ForceRestart, GracefulRestart, GracefulShutdown, On};
        let all = at(&ACTIONS, true);
        let of = |action, can: &Can| moves("n1", wish(action, true), can).unwrap();
        assert_eq!(of(ForceRestart, &all), [Move::Restart(ForceRestart)]);
        assert_eq!(of(GracefulRestart, &all), [Move::Restart(GracefulRestart)]);
        let unmarked = at(&ACTIONS, false);
        assert_eq!(of(ForceRestart, &unmarked), [Move::Cut, Move::On]);
        assert_eq!(of(GracefulRestart, &unmarked), [Move::ShutDown, Move::On]);
        // The resets that are left are combined: AMI has no GracefulRestart, Cray EX no ForceRestart.
        let ami = at(&[On, ForceOff, ForceRestart, GracefulShutdown], true);
        assert_eq!(of(GracefulRestart, &ami), [Move::ShutDown, Move::On]);
        assert_eq!(of(ForceRestart, &at(&[On, ForceOff], true)), [Move::Cut, Move::On]);
        // One way is one way.
        assert_eq!(of(ForceRestart, &at(&[On, ForceRestart], false)), [Move::Restart(ForceRestart)]);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        use PowerAction::{ForceOff, ForceRestart, GracefulRestart, GracefulShutdown, On, PowerCycle};
        let no = |asked: Wish, offers: &[PowerAction]| {
            let failure = moves("n1", asked, &at(offers, true)).unwrap_err();
            assert_eq!(failure.cause, Cause::Refused);
            (failure.why.clone(), failure.next.unwrap())
        };
        let graceful = no(wish(GracefulRestart, true), &[On, ForceOff]);
        assert_eq!(graceful.1, "rackctl power reset n1 --force");
        assert!(graceful.0.contains("GracefulRestart") && graceful.0.contains("it allows: some"), "{}", graceful.0);
        assert_eq!(no(wish(GracefulShutdown, true), &[On, ForceOff]).1, "rackctl power off n1 --force");
        assert_eq!(no(wish(ForceOff, true), &[On, GracefulShutdown]).1, "rackctl power off n1");
        assert_eq!(no(wish(ForceRestart, false), &[On, ForceOff]).1, "rackctl power reset n1 --force");
        let cycle = no(wish(PowerCycle, true), &[On, ForceOff]);
        assert!(cycle.0.contains("`GracefulShutdown`"), "{}", cycle.0);
        assert_eq!(cycle.1, "rackctl power cycle n1 --force");
        assert_eq!(no(wish(On, true), &[ForceOff]).1, "rackctl bmc info n1");
    }

    #[test]
    fn what_is_so_already_sends_nothing() {
        use PowerAction::{ForceOff, GracefulShutdown, On};
        let parts = [Move::Cut, Move::On];
        assert_eq!(sends(&parts, PowerState::On), [(ForceOff, PowerState::On), (On, PowerState::Off)]);
        assert_eq!(sends(&parts, PowerState::Off), [(On, PowerState::Off)]);
        assert_eq!(sends(&[Move::ShutDown], PowerState::Unknown), [(GracefulShutdown, PowerState::On)]);
        assert_eq!(sends(&[Move::On], PowerState::On), []);
    }

    #[test]
    fn a_mark_is_a_time() {
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(mark(&text("0000-00-00T00:00:00Z")), None);
        assert_eq!(mark(&text("2026-01-02T03:04:05Z")), text("2026-01-02T03:04:05Z"));
        assert!(progress(Some("OSRunning")) > progress(Some("MemoryInitializationStarted")));
        assert_eq!((progress(Some("OEM")), progress(None)), (None, None));
    }

    // fault: F20 invariant: I15 harness: D
    #[test]
    fn transitions_are_not_arrival() {
        assert!(reached(true, PowerState::On) && reached(false, PowerState::Off));
        for state in [PowerState::PoweringOn, PowerState::PoweringOff, PowerState::Unknown] {
            assert!(!reached(true, state) && !reached(false, state));
        }
    }
}
