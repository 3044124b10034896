//! Is it the right world? Everything that is wrong with it, in words.

use std::collections::{BTreeMap, BTreeSet};

use rackctl::{
    lab::simulated::{disk::DiskState, machine::Phase},
    model::power::PowerState,
    store::{self, RecordKind, RunState, Store},
};
use serde_json::Value;

use super::lab::Lab;

/// What the machines counted, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Of all machines: power cycles beyond the two boots of an installation.
    pub extra_boots: u64,
    pub records: usize,
}

const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// `runs`: how many there may be.
pub fn check(lab: &Lab, runs: usize) -> (Vec<String>, Counts) {
    let mut wrong = Vec::new();
    let mut counts = Counts::default();
    match machines(lab, &mut wrong, &mut counts) {
        Ok(()) => journal(lab, runs, &mut wrong, &mut counts),
        Err(why) => wrong.push(why),
    }
    members(lab, &mut wrong);
    let inside = lab.inside();
    if !inside.is_empty() {
        wrong.push(format!("left in the namespace: {inside:?}"));
    }
    (wrong, counts)
}

fn machines(lab: &Lab, wrong: &mut Vec<String>, counts: &mut Counts) -> Result<(), String> {
    let store = lab.store().ok_or("there is no store")?;
    let records: BTreeMap<_, _> = store.node_records().map_err(|e| e.to_string())?.into_iter().collect();
    for machine in lab.machines()? {
        let node = &machine.name;
        let account = machine.simulated.ok_or("no simulated machine")?;
        let mut say = |why: String| wrong.push(format!("{node}: {why}"));
        if account.wipes != 1 {
            say(format!("its disk was written {} times", account.wipes));
        }
        if (account.phase, account.disk, machine.power) != (Phase::System, DiskState::Written, PowerState::On) {
            say(format!("{:?}, disk {:?}, power {:?}", account.phase, account.disk, machine.power));
        }
        if !account.etcd {
            say("its etcd does not run".into());
        }
        // The installer and the installed system: two boots.
        let extra = account.boots.saturating_sub(2);
        counts.extra_boots += extra;
        if extra > 1 || machine.starts.power_on > 2 || account.power_cuts > 1 {
            say(format!("{:?}, {} boots, {} power cuts", machine.starts, account.boots, account.power_cuts));
        }
        match records.get(node) {
            None => say("the store has no record of it".into()),
            Some(record) => {
                if Some(record.disk_guid) != account.disk_guid || account.generation != Some(record.generation) {
                    say(format!(
                        "record {} of generation {}, disk {:?} of {:?}",
                        record.disk_guid, record.generation, account.disk_guid, account.generation
                    ));
                }
                if record.generation != 1 {
                    say(format!("generation {}", record.generation));
                }
            }
        }
        if !machine.boot_override.is_cleared() {
            say(format!("boot override {:?}", machine.boot_override));
        }
        let log = lab.requests(node)?;
        let count = |method: &str, below: bool| {
            let of = |r: &&Value| {
                let path = r["path"].as_str().unwrap_or_default().trim_end_matches('/');
                let good = r["status"].as_u64().is_some_and(|s| (200..300).contains(&s));
                let place = if below { path.starts_with(&format!("{SESSIONS}/")) } else { path == SESSIONS };
                r["method"] == method && good && place
            };
            log.iter().filter(of).count()
        };
        let (logins, logouts) = (count("POST", false), count("DELETE", true));
        if machine.sessions != 0 || logins != logouts {
            say(format!("{} open log-ins, {logins} log-ins, {logouts} log-outs", machine.sessions));
        }
    }
    Ok(())
}

fn journal(lab: &Lab, most: usize, wrong: &mut Vec<String>, counts: &mut Counts) {
    let Some(store) = lab.store() else { return };
    match store.chain() {
        Ok(chain) => {
            counts.records = chain.len();
            if let Err(broken) = store::verify(&chain) {
                wrong.push(format!("the audit chain: {broken}"));
            }
        }
        Err(e) => wrong.push(format!("the audit chain: {e}")),
    }
    if !store.locks().is_ok_and(|l| l.is_empty()) {
        wrong.push("locks are left".into());
    }
    if !store.bmc_sessions().is_ok_and(|all| all.iter().all(|s| s.uri.is_none())) {
        wrong.push("the store notes open log-ins".into());
    }
    let runs = store.runs().unwrap_or_default();
    if runs.first().map(|r| r.state) != Some(RunState::Succeeded) || runs.len() > most {
        wrong.push(format!("runs: {:?}", runs.iter().map(|r| (&r.id, r.state)).collect::<Vec<_>>()));
    }
    if store.cluster_record("lab").ok().flatten().map(|c| c.generation) != Some(1) {
        wrong.push("the cluster was not made once".into());
    }
    // Over all runs: nothing is done twice that may be done once.
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    for run in &runs {
        for record in store.journal(&run.id).unwrap_or_default() {
            if record.kind == RecordKind::Done {
                *done.entry(record.step).or_default() += 1;
            }
        }
    }
    let entered = |word: &str| done.iter().filter(|(s, _)| s.contains(&format!("/{word}-"))).map(|(_, n)| n).sum();
    let bootstraps: usize = entered("bootstrap");
    if bootstraps > 1 {
        wrong.push(format!("{bootstraps} bootstraps"));
    }
}

fn members(lab: &Lab, wrong: &mut Vec<String>) {
    let nodes: BTreeSet<String> = lab.machines().unwrap_or_default().into_iter().map(|m| m.name).collect();
    let said = lab.rackctl(&["get", "members", "-o", "json"]);
    let list: Value = serde_json::from_str(&said.out).unwrap_or_default();
    let empty = Vec::new();
    let items = list["items"].as_array().unwrap_or(&empty);
    let names: BTreeSet<String> =
        items.iter().filter_map(|m| m["status"]["name"].as_str()).map(str::to_owned).collect();
    let role = |word: &str| items.iter().filter(|m| m["status"]["role"] == word).count();
    let well = items.iter().all(|m| m["status"]["healthy"] == true);
    if names != nodes || items.len() != nodes.len() || role("leader") != 1 || role("learner") != 0 || !well {
        wrong.push(format!("members: {said}"));
    }
}
