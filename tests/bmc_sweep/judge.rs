//! What a case did, against what was expected of it.

use serde_json::Value;

use crate::{
    draw::{Case, Verb},
    floor::{After, Machine},
    table::{self, Cause, End},
};

/// What the program said of one machine.
#[derive(Debug)]
pub struct Told {
    pub cause: Option<String>,
    pub text: String,
}

impl Told {
    pub fn of(item: &Value) -> Told {
        let status = &item["status"];
        Told { cause: status["failure"]["cause"].as_str().map(str::to_owned), text: status.to_string() }
    }
}

/// The exit code of a command over machines that end so (done 0, failed 1, refused by a guard everywhere 3, some of both 4).
pub fn exit_code(ends: &[End]) -> i32 {
    let done = ends.iter().filter(|e| **e == End::Recovered).count();
    match () {
        () if done == ends.len() => 0,
        () if ends.iter().all(|e| *e == End::Fails(Cause::Guard)) => 3,
        () if done == 0 => 1,
        () => 4,
    }
}

/// Requests of a case that were taken and change something.
fn taken(after: &After) -> Vec<String> {
    let good = |status: u16, ipmi: bool| if ipmi { status == 0 } else { (200..300).contains(&status) };
    let log = after.log.iter().filter(|l| l.is_write() && good(l.status, l.method == "IPMI"));
    log.map(|l| format!("{} {}", l.method, l.path)).collect()
}

/// Everything that is wrong with how the case ended.
pub fn wrong(case: &Case, told: Option<&Told>, after: &After, machine: &Machine) -> Vec<String> {
    let mut wrong = Vec::new();
    let (end, sent) = table::expected(case);
    let Some(told) = told else { return vec!["nothing is said of it".into()] };
    let ended = told.cause.as_deref().map_or("recovered", |cause| cause);
    let wanted = match end {
        End::Recovered => "recovered",
        End::Fails(cause) => cause.word(),
    };
    if ended != wanted {
        wrong.push(format!("it ended as {ended}, expected {wanted}: {}", told.text));
    }
    if after.sessions != 0 {
        wrong.push(format!("{} sessions are left", after.sessions));
    }
    if !after.locked.is_empty() {
        wrong.push(format!("locked: {:?}", after.locked));
    }
    let taken = taken(after);
    if !sent && !taken.is_empty() {
        wrong.push(format!("nothing was to be changed, and there was: {taken:?}"));
    }
    if let Some(foreign) = taken.iter().find(|t| !belongs(case.verb, t)) {
        wrong.push(format!("a request that nobody asked for: {foreign}"));
    }
    // Each effect once at most, whatever the end.
    let (boots, cuts) = match case.verb {
        Verb::On => (1, 0),
        Verb::Off => (0, 1),
        Verb::Cycle => (1, 1),
        _ => (0, 0),
    };
    if after.boots > boots || after.cuts > cuts {
        wrong.push(format!("started {} times, cut {} times", after.boots, after.cuts));
    }
    if end == End::Recovered && ended == wanted {
        wrong.extend(undone(case, after, machine, &taken, (boots, cuts)));
    }
    wrong
}

/// What a verb that said "done" did not do, or did twice.
fn undone(case: &Case, after: &After, machine: &Machine, taken: &[String], effects: (usize, u32)) -> Option<String> {
    let orders = taken.len();
    let as_wanted = match case.verb {
        Verb::Status => orders == 0,
        Verb::On => after.on && orders == 1,
        Verb::Off | Verb::Shut => !after.on && orders == 1,
        Verb::Cycle => after.on && orders == 2,
        Verb::Update => orders == 1,
        Verb::Set | Verb::Clear => {
            let next = machine.bmc.on_guest_reset();
            let network = next == Some(rackctl::model::power::BootTarget::Pxe);
            network == table::boots_from_network(case) && (network || next.is_none())
        }
    };
    let done = as_wanted && (after.boots, after.cuts) == effects;
    (!done).then(|| format!("said to be done: on {}, started {}, cut {}, {taken:?}", after.on, after.boots, after.cuts))
}

/// Whether a request belongs to what was asked.
fn belongs(verb: Verb, request: &str) -> bool {
    match verb {
        Verb::Status => false,
        Verb::On | Verb::Off | Verb::Shut | Verb::Cycle => {
            request.ends_with("/Actions/ComputerSystem.Reset") || request.starts_with("IPMI ipmi 0x00 0x02")
        }
        Verb::Set | Verb::Clear => {
            request.to_ascii_lowercase().starts_with("patch /redfish/v1/systems/")
                || request.starts_with("IPMI ipmi 0x00 0x08")
        }
        Verb::Update => request.ends_with("/UpdateService.SimpleUpdate"),
    }
}
