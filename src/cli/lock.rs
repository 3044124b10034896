//! `lock list|steal`

use std::{collections::BTreeMap, io::BufRead};

use serde_json::{Value, json};

use super::{
    args::state::{Lock as Args, LockVerb},
    get,
    globals::Globals,
    session::{Session, stop},
};
use crate::{
    model::{Failure, Stamp, clock::age, failure::Cause},
    output::{Exit, Stop, Table, age as ages, format::API_VERSION, stdout},
    run::{clock, sessions},
    store::{Holder, LEASE, Lock},
};

pub fn lock(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    match &args.verb {
        LockVerb::List => get::run(globals, &get::of("locks")),
        LockVerb::Steal { names, run, reason, force, yes } => {
            let order = Order { names, run: run.as_deref(), reason, force: *force, yes: *yes };
            steal(globals, &order)
        }
    }
}

struct Order<'a> {
    names: &'a [String],
    run: Option<&'a str>,
    reason: &'a str,
    force: bool,
    yes: bool,
}

fn steal(globals: &Globals, order: &Order<'_>) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    if session.read_only {
        return Err(Failure::new(Cause::Guard, "lock steal", "--read-only: no lock changes hands").into());
    }
    let locks = chosen(session.store.locks().map_err(|e| stop(&e))?, order)?;
    let now = clock::stamp();
    let shown = table(&locks, &now).render(stdout::width());
    stdout::note(shown.trim_end());
    if let Some(live) = locks.iter().find(|l| !l.expired).filter(|_| !order.force) {
        let why = format!(
            "{} holds it for run {} since {}, and {}",
            live.holder,
            live.run,
            crate::model::clock::utc(live.since_ms),
            lease(live, &now)
        );
        let failure = Failure::new(Cause::Guard, format!("steal {}", live.name), why);
        let next = "wait for the lease to run out, stop that process, or add --force";
        return Err(Stop::with(Exit::Locked, failure.next(next)));
    }
    confirm(&locks, order)?;
    let me = Holder::this();
    // Under the run that loses them: its own journal says where its locks went.
    let mut by_run: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for lock in &locks {
        by_run.entry(&lock.run).or_default().push(lock.name.clone());
    }
    for (run, names) in &by_run {
        let fence = session
            .store
            .steal(names, run, &me, &clock::stamp(), LEASE, order.force, order.reason)
            .map_err(|e| stop(&e))?;
        // Taken to be free: whoever goes on with the run locks them anew.
        session.store.unlock(&fence).map_err(|e| stop(&e))?;
    }
    let holders: Vec<&Holder> = locks.iter().map(|l| &l.holder).collect();
    sessions::abandon(session.store.as_ref(), &holders).map_err(|e| stop(&e))?;
    let items: Vec<Value> = locks
        .iter()
        .map(|l| {
            let status = json!({ "from": l.holder, "run": l.run, "fence": l.fence, "reason": order.reason });
            json!({ "apiVersion": API_VERSION, "kind": "Lock", "metadata": { "name": l.name }, "spec": {}, "status": status })
        })
        .collect();
    if !globals.format.is_for_people() {
        globals.print(&items, |_| table(&locks, &now))?;
    }
    let runs: Vec<&str> = by_run.keys().copied().collect();
    stdout::note(&format!(
        "{} locks are free; what their run left in hand: rackctl describe node NAME, rackctl resume {}",
        locks.len(),
        runs.first().unwrap_or(&"RUN")
    ));
    Ok(Exit::Done)
}

fn chosen(locks: Vec<Lock>, order: &Order<'_>) -> Result<Vec<Lock>, Stop> {
    let nothing =
        |what: String, why: &str| -> Stop { Failure::new(Cause::Guard, what, why).next("rackctl lock list").into() };
    if let Some(run) = order.run {
        let of_run: Vec<Lock> = locks.into_iter().filter(|l| l.run == run).collect();
        return match of_run.is_empty() {
            true => Err(nothing(format!("locks of run {run}"), "it holds none")),
            false => Ok(of_run),
        };
    }
    if let Some(free) = order.names.iter().find(|name| !locks.iter().any(|l| l.name == **name)) {
        return Err(nothing(format!("steal {free}"), "nobody holds a lock of that name"));
    }
    Ok(locks.into_iter().filter(|l| order.names.contains(&l.name)).collect())
}

/// How the lease stands, in words.
fn lease(lock: &Lock, now: &Stamp) -> String {
    let gone = now.unix_ms.saturating_sub(lock.renewed.unix_ms);
    match (lock.renewed.expired(lock.ttl_ms, now), lock.expired) {
        (true, _) => format!("its lease ran out {} ago", age(gone.saturating_sub(lock.ttl_ms))),
        (false, true) => "its process is dead".to_owned(),
        (false, false) => format!("its lease is good for another {}", age(lock.ttl_ms.saturating_sub(gone))),
    }
}

fn table(locks: &[Lock], now: &Stamp) -> Table {
    let mut table = Table::new(["NAME", "HOLDER", "RUN", "SINCE", "LEASE"]);
    for lock in locks {
        table.row([
            lock.name.clone(),
            lock.holder.to_string(),
            lock.run.clone(),
            ages::since(now.unix_ms, lock.since_ms),
            lease(lock, now),
        ]);
    }
    table
}

fn confirm(locks: &[Lock], order: &Order<'_>) -> Result<(), Stop> {
    if order.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let failure = Failure::new(Cause::Guard, "lock steal", why);
        Err(Stop::with(Exit::NeedsApproval, failure.next("rackctl lock steal … --yes")))
    };
    if !stdout::stdin_is_terminal() {
        return refused("it needs a yes, and there is no terminal to ask at");
    }
    if locks.iter().any(|l| !l.expired) {
        stdout::note("A holder that still lives is fenced off; what it began at a machine goes on there.");
    }
    stdout::note("Type `steal` to go on, anything else to leave:");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "steal" { Ok(()) } else { refused("it was not confirmed; nothing was done") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(unix_ms: u64) -> Stamp {
        Stamp { unix_ms, boot_id: "b".into(), boot_ms: unix_ms }
    }

    fn lock(name: &str, run: &str, expired: bool) -> Lock {
        let holder = Holder { user: "ann".into(), host: "east".into(), pid: 7, ..Holder::this() };
        Lock {
            name: name.into(),
            run: run.into(),
            holder,
            fence: 3,
            since_ms: 1_000,
            renewed: stamp(100_000),
            ttl_ms: 30_000,
            expired,
        }
    }

    #[test]
    fn leases_in_words() {
        for (now, expired, words) in [
            (110_000, false, "its lease is good for another 20s"),
            (110_000, true, "its process is dead"),
            (190_000, true, "its lease ran out 60s ago"),
        ] {
            assert_eq!(lease(&lock("a", "r", expired), &stamp(now)), words);
        }
        let shown = table(&[lock("node/n1", "r-1", true)], &stamp(190_000)).render(None);
        assert!(shown.contains("ann@east (pid 7)") && shown.contains("r-1"), "{shown}");
    }

    #[test]
    fn locks_are_chosen_by_name_or_run() {
        let all = || vec![lock("node/n1", "r-1", true), lock("node/n2", "r-2", true), lock("node/n3", "r-1", true)];
        let names = ["node/n2".to_owned()];
        let free = ["node/n9".to_owned()];
        let order = |names, run| Order { names, run, reason: "x", force: false, yes: true };
        let got = |o: &Order<'_>| chosen(all(), o).map(|l| l.into_iter().map(|l| l.name).collect::<Vec<_>>());
        assert_eq!(got(&order(&names, None)).unwrap(), ["node/n2"]);
        assert_eq!(got(&order(&[], Some("r-1"))).unwrap(), ["node/n1", "node/n3"]);
        assert_eq!(got(&order(&free, None)).unwrap_err().exit, Exit::Refused);
        assert_eq!(got(&order(&[], Some("r-9"))).unwrap_err().exit, Exit::Refused);
    }
}
