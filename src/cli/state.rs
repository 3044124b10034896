//! `state rebuild`: a new state from what machines and clusters say. Nothing is written to any of them.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use rackctl_wire::NodeStatus;
use serde_json::{Value, json};

use super::{
    args::state::{State as Args, StateVerb},
    globals::Globals,
    opened::{self, Place},
    session::{CONCURRENCY, Session, block_on, named, stop},
};
use crate::{
    model::{
        Failure,
        facts::{Facts, InstallPhase, NodeRecord, Observed},
        failure::Cause,
    },
    output::{Exit, Stop, Table, format::API_VERSION, stdout},
    remote::{key::HostKey, scan_exec},
    run::{
        clock, observe,
        rebuild::{self, Told},
    },
    store::{
        self, ClusterRecord, Draft, EtcdStore, EtcdUrl, Fence, Holder, LEASE, MemoryStore, RecordKind, Replacement,
        SqliteStore, Store, StoreError, etcd,
    },
};

pub fn state(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let StateVerb::Rebuild { trust_host_keys, no_cluster, force, dry_run, yes } = &args.verb;
    let order = Order {
        trust: *trust_host_keys,
        no_cluster: no_cluster.as_slice(),
        force: *force,
        dry: *dry_run || globals.read_only,
        yes: *yes,
    };
    rebuild(globals, &order)
}

struct Order<'a> {
    trust: bool,
    no_cluster: &'a [String],
    force: bool,
    dry: bool,
    yes: bool,
}

/// What stands where the state should be.
enum Stands {
    /// A state that can be read: only its unknown nodes are looked at again.
    Whole(Arc<dyn Store>, Vec<String>),
    /// Nothing that may be believed, and why.
    Lost(String),
}

/// What was found out.
struct Found {
    nodes: BTreeMap<String, Told<NodeRecord>>,
    clusters: BTreeMap<String, Told<ClusterRecord>>,
    facts: Facts,
}

fn rebuild(globals: &Globals, order: &Order<'_>) -> Result<Exit, Stop> {
    let fleet = globals.fleet()?;
    if let Some(name) = order.no_cluster.iter().find(|n| !fleet.clusters.contains_key(*n)) {
        let failure = Failure::new(Cause::Refused, format!("--no-cluster {name}"), "the inventory has no such cluster");
        return Err(Stop::usage(failure.next("rackctl get clusters")));
    }
    let place = Place::of(globals.store.as_deref(), &fleet)?;
    if let Place::Etcd(url) = &place {
        opened::outside(url, &fleet)?;
    }
    let (stands, names, hints) = match stands(&place, order)? {
        Stands::Whole(store, unknown) if unknown.is_empty() => {
            let head = store.head().map_err(|e| stop(&e))?;
            stdout::note(&format!("{place} is whole ({} records) and knows every node: nothing to rebuild", head.seq));
            return Ok(Exit::Done);
        }
        Stands::Whole(store, unknown) => {
            if !order.no_cluster.is_empty() {
                let why = "the state is there and keeps its clusters; only a state that is made anew leaves one out";
                let failure = Failure::new(Cause::Guard, "--no-cluster", why);
                return Err(failure.next("rackctl state rebuild --force").into());
            }
            let records = store.node_records().map_err(|e| stop(&e))?;
            (Stands::Whole(store, unknown.clone()), unknown, records)
        }
        lost => (lost, fleet.nodes.keys().cloned().collect(), salvage(&place)),
    };
    let hints: BTreeMap<String, NodeRecord> = hints.into_iter().filter(|(n, _)| names.contains(n)).collect();
    // Looked at through a store of its own: nothing of the lost one is used but the keys to ask with.
    let memory = MemoryStore::new();
    let session = Session {
        folder: place.folder(&fleet)?,
        fleet,
        store: Arc::new(memory.clone()),
        read_only: true,
        concurrency: globals.concurrency.unwrap_or(CONCURRENCY),
        verbose: globals.verbose,
        lease: LEASE,
        told: Arc::default(),
    };
    session.enter(&names)?;
    let run = format!("rebuild-{}", clock::unix_ms());
    block_on(async {
        let found = look(&session, &memory, &names, &hints, order, &run).await?;
        show(globals, &found)?;
        if !order.dry {
            confirm(&stands, order)?;
            keep(&place, &session, stands, &found, order, &run)?;
        }
        let unknown = found.nodes.values().filter(|t| t.record.phase == InstallPhase::Unknown).count();
        Ok(match unknown {
            0 => Exit::Done,
            n if n == found.nodes.len() => Exit::NeedsPerson,
            _ => Exit::Partial,
        })
    })
}

/// Whether there is a state to keep. Only one that says of itself that it is lost is given up without `--force`.
fn stands(place: &Place, order: &Order<'_>) -> Result<Stands, Stop> {
    let opened: Result<Arc<dyn Store>, StoreError> = match place {
        Place::File(path) => SqliteStore::open(path).map_err(|e| named(e, path)).map(|s| Arc::new(s) as _),
        Place::Etcd(url) => EtcdStore::open(url).and_then(|store| match store.is_being_filled() {
            true => Err(store.lineage().err().unwrap_or_else(|| StoreError::Conflict("it is being filled".into()))),
            false => Ok(Arc::new(store) as _),
        }),
    };
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            let failure = error.to_failure();
            let unfit = matches!(failure.cause, Cause::Guard | Cause::Malformed);
            return match is_lost(&failure) || (order.force && unfit) {
                true => Ok(Stands::Lost(failure.why)),
                false => Err(stop(&error)),
            };
        }
    };
    if let Some(to) = store.moved().map_err(|e| stop(&e))? {
        return Err(stop(&store::moved_to(&to)));
    }
    let read = || -> Result<(bool, Vec<String>), StoreError> {
        if let Some(held) = store.locks()?.into_iter().find(|l| l.holder.alive() && !l.expired) {
            return Err(StoreError::Locked(Box::new(held)));
        }
        store.chain()?;
        let records = store.node_records()?;
        let empty = store.head()?.seq == 0 && records.is_empty() && store.run_heads()?.is_empty();
        let unknown = records.into_iter().filter(|(_, r)| r.phase == InstallPhase::Unknown).map(|(n, _)| n);
        Ok((empty, unknown.collect()))
    };
    match read() {
        Err(error @ StoreError::Locked(_)) => Err(stop(&error)),
        Err(error) => {
            let failure = error.to_failure();
            // An etcd that does not answer is not one that lost something.
            match is_lost(&failure) || matches!(failure.cause, Cause::Guard | Cause::Malformed) {
                true => Ok(Stands::Lost(failure.why)),
                false => Err(stop(&error)),
            }
        }
        Ok((true, _)) => Ok(Stands::Lost("nothing was ever kept in it".to_owned())),
        Ok((false, _)) if order.force => Ok(Stands::Lost("--force".to_owned())),
        Ok((false, unknown)) => Ok(Stands::Whole(store, unknown)),
    }
}

/// A state that says of itself that it must not be believed.
fn is_lost(failure: &Failure) -> bool {
    failure.next.as_deref() == Some("rackctl state rebuild")
        || failure.cause == Cause::Guard
            && failure.next.as_deref().is_some_and(|next| next.starts_with("rackctl audit"))
}

/// What can still be read of nodes. Hints, to be held against the machines themselves.
fn salvage(place: &Place) -> Vec<(String, NodeRecord)> {
    match place {
        Place::File(path) => SqliteStore::salvage(path),
        Place::Etcd(url) => EtcdStore::open(url).and_then(|store| store.node_records()).unwrap_or_default(),
    }
}

async fn look(
    session: &Session,
    memory: &MemoryStore,
    names: &[String],
    hints: &BTreeMap<String, NodeRecord>,
    order: &Order<'_>,
    run: &str,
) -> Result<Found, Stop> {
    for (node, hint) in hints.iter().filter(|(_, h)| !h.system_host_key.is_empty()) {
        memory.put_node_record(node, hint).map_err(|e| stop(&e))?;
    }
    let passwords = session.passwords(names).await?;
    let (asking, _ear) = session.asking(&passwords, true)?;
    let mut facts = observe::facts(&session.fleet, names, &asking).await?;
    let mut keys: BTreeMap<String, Result<String, String>> = hints
        .iter()
        .filter(|(_, hint)| !hint.system_host_key.is_empty())
        .map(|(node, hint)| (node.clone(), Ok(hint.system_host_key.clone())))
        .collect();
    // Whoever did not answer to a key that is known is asked for the one that it has.
    let silent: Vec<&String> = names
        .iter()
        .filter(|n| !matches!(facts.nodes.get(*n).and_then(|f| f.system.as_ref()), Some(Observed { value: Ok(_), .. })))
        .collect();
    let shown = scan(session, &silent).await;
    tell(&shown, order.trust);
    for (node, shown) in shown {
        match shown {
            Ok(key) if order.trust => {
                let key = format!("{} {}", key.algorithm, key.blob);
                let Some(spec) = session.fleet.nodes.get(&node) else { continue };
                let value = observe::system_status(spec, &key, &asking.scratch).await;
                facts.nodes.entry(node.clone()).or_default().system = Some(Observed { at: clock::unix_ms(), value });
                keys.insert(node, Ok(key));
            }
            Ok(key) => {
                let why = format!(
                    "its SSH host key {} is not known: compare it at the machine's console, then --trust-host-keys",
                    key.fingerprint()
                );
                keys.entry(node).or_insert(Err(why));
            }
            Err(failure) => drop(keys.entry(node).or_insert(Err(failure.why))),
        }
    }
    let none = Default::default();
    let mut nodes = BTreeMap::new();
    for name in names {
        let Some(spec) = session.fleet.nodes.get(name) else { continue };
        let key = keys.get(name);
        let told = rebuild::node(
            spec,
            facts.nodes.get(name).unwrap_or(&none),
            key.and_then(|k| k.as_deref().ok()),
            key.and_then(|k| k.as_ref().err().map(String::as_str)),
            hints.get(name),
            run,
            clock::unix_ms(),
        );
        memory.put_node_record(name, &told.record).map_err(|e| stop(&e))?;
        nodes.insert(name.clone(), told);
    }
    // With what is known of nodes now, the clusters are asked.
    let (asking, _ear) = session.asking(&passwords, false)?;
    let asked = observe::facts(&session.fleet, &[], &asking).await?;
    let clusters = clusters(session, &nodes, &facts, &asked, order, run);
    Ok(Found { nodes, clusters, facts })
}

fn clusters(
    session: &Session,
    nodes: &BTreeMap<String, Told<NodeRecord>>,
    facts: &Facts,
    asked: &Facts,
    order: &Order<'_>,
    run: &str,
) -> BTreeMap<String, Told<ClusterRecord>> {
    let records: BTreeMap<String, NodeRecord> = nodes.iter().map(|(n, t)| (n.clone(), t.record.clone())).collect();
    let systems: BTreeMap<String, NodeStatus> = facts
        .nodes
        .iter()
        .filter_map(|(n, f)| Some((n.clone(), f.system.as_ref()?.value.as_ref().ok()?.clone())))
        .collect();
    session
        .fleet
        .clusters
        .iter()
        .filter(|(name, spec)| !order.no_cluster.contains(name) && spec.members.iter().any(|m| nodes.contains_key(m)))
        .filter_map(|(name, spec)| {
            let seen = asked.clusters.get(name).and_then(|o| o.value.as_ref().ok()).map(|f| f.cluster_id.as_str());
            Some((name.clone(), rebuild::cluster(spec, &records, &systems, seen, run)?))
        })
        .collect()
}

/// The host keys that these nodes show.
async fn scan(session: &Session, names: &[&String]) -> Vec<(String, Result<HostKey, Failure>)> {
    let mut shown: Vec<_> = stream::iter(names.iter().map(|name| async move {
        let address = session.fleet.nodes.get(*name).and_then(|n| n.address());
        let key = match address {
            Some(address) => scan_exec::host_key(&address.to_string(), 22).await,
            None => Err(Failure::new(Cause::Guard, name.as_str(), "the inventory gives it no address")),
        };
        ((*name).clone(), key)
    }))
    .buffer_unordered(session.concurrency.max(1))
    .collect()
    .await;
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

fn tell(shown: &[(String, Result<HostKey, Failure>)], trust: bool) {
    let mut table = Table::new(["NODE", "SSH HOST KEY"]);
    for (node, key) in shown {
        if let Ok(key) = key {
            table.row([node.clone(), key.fingerprint()]);
        }
    }
    if table.is_empty() {
        return;
    }
    stdout::note(table.render(stdout::width()).trim_end());
    stdout::note(match trust {
        true => "They are believed, as --trust-host-keys says.",
        false => {
            "They are not believed: on the machine's console `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the right one."
        }
    });
}

fn show(globals: &Globals, found: &Found) -> Result<(), Stop> {
    let item = |kind: &str, name: &str, record: Value, why: &str| json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": {}, "status": { "record": record, "why": why } });
    let items: Vec<Value> = found
        .nodes
        .iter()
        .map(|(name, told)| item("NodeRecord", name, json!(told.record), &told.why))
        .chain(found.clusters.iter().map(|(name, told)| item("ClusterRecord", name, json!(told.record), &told.why)))
        .collect();
    globals.print(&items, |_| {
        let mut table = Table::new(["NAME", "FOUND", "GENERATION", "WHY"]);
        for (name, told) in &found.nodes {
            let phase = format!("{:?}", told.record.phase);
            table.row([format!("node/{name}"), phase, told.record.generation.to_string(), told.why.clone()]);
        }
        for (name, told) in &found.clusters {
            let phase = if told.record.token.is_empty() { "May exist" } else { "Made" };
            table.row([format!("cluster/{name}"), phase.into(), told.record.generation.to_string(), told.why.clone()]);
        }
        table
    })
}

fn confirm(stands: &Stands, order: &Order<'_>) -> Result<(), Stop> {
    if order.yes {
        return Ok(());
    }
    let refused = |why: &str| {
        let failure = Failure::new(Cause::Guard, "state rebuild", why);
        Err(Stop::with(Exit::NeedsApproval, failure.next("rackctl state rebuild --yes")))
    };
    if !stdout::stdin_is_terminal() {
        return refused("it needs a yes, and there is no terminal to ask at");
    }
    stdout::note(match stands {
        Stands::Whole(..) => "What was found will be recorded in the state as it is.",
        Stands::Lost(_) => "What was found becomes the state; what is left of the old one is kept beside it.",
    });
    stdout::note("Type `rebuild` to go on, anything else to leave:");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "rebuild" {
        Ok(())
    } else {
        refused("it was not confirmed; nothing was recorded")
    }
}

fn keep(
    place: &Place,
    session: &Session,
    stands: Stands,
    found: &Found,
    order: &Order<'_>,
    run: &str,
) -> Result<(), Stop> {
    let draft = |why: &str| Draft {
        subject: "store".to_owned(),
        step: "rebuild".to_owned(),
        attempt: 1,
        kind: RecordKind::Rebuilt,
        body: json!({
            "because": why,
            "trustedHostKeys": order.trust,
            "noCluster": order.no_cluster,
            "nodes": found.nodes.iter().map(|(n, t)| (n.clone(), json!({ "phase": t.record.phase, "generation": t.record.generation, "why": t.why }))).collect::<serde_json::Map<_, _>>(),
            "clusters": found.clusters.iter().map(|(n, t)| (n.clone(), json!({ "made": !t.record.token.is_empty(), "why": t.why }))).collect::<serde_json::Map<_, _>>(),
        }),
    };
    let me = Holder::this();
    let observed = |store: &dyn Store| {
        for (node, facts) in &found.facts.nodes {
            if let Ok(value) = serde_json::to_value(facts) {
                store.put_observed(node, clock::unix_ms(), &value)?;
            }
        }
        Ok::<_, StoreError>(())
    };
    // The machines took their time to answer: what was lost is asked again, so that nobody who began meanwhile loses
    // what he wrote.
    let stands = match stands {
        Stands::Lost(_) => match self::stands(place, order)? {
            lost @ Stands::Lost(_) => lost,
            Stands::Whole(..) => {
                let why = "somebody else has made the state anew meanwhile; nothing was written";
                let failure = Failure::new(Cause::Guard, "state rebuild", why);
                return Err(failure.next("rackctl get nodes; if some are unknown still, rackctl state rebuild").into());
            }
        },
        whole @ Stands::Whole(..) => whole,
    };
    let done = match stands {
        Stands::Lost(why) => {
            let fill = |store: &dyn Store| -> Result<(), StoreError> {
                for (node, told) in &found.nodes {
                    store.put_node_record(node, &told.record)?;
                }
                for (cluster, told) in &found.clusters {
                    store.put_cluster_record(cluster, 0, &told.record)?;
                }
                observed(store)?;
                store.append(run, clock::unix_ms(), &Fence::of_nothing(&me), draft(&why)).map(drop)
            };
            let write = || match place {
                Place::File(path) => {
                    let new = Replacement::begin(path)?;
                    fill(new.store())?;
                    new.settle(clock::unix_ms())
                }
                Place::Etcd(url) => {
                    let new = MemoryStore::new();
                    fill(&new)?;
                    in_etcd(url, session, &new)
                }
            };
            write().map(|aside| match aside {
                Some(aside) => format!("{place} is new; what was there is {} now", aside.display()),
                None => format!("{place} is new"),
            })
        }
        Stands::Whole(store, unknown) => {
            let locks: Vec<String> = unknown.iter().map(|n| format!("node/{n}")).collect();
            let write = || -> Result<String, StoreError> {
                let fence = store.lock(&locks, run, &me, &clock::stamp(), LEASE)?;
                let write = || {
                    store.append(run, clock::unix_ms(), &fence, draft("its unknown nodes were looked at again"))?;
                    for (node, told) in &found.nodes {
                        store.put_node_record(node, &told.record)?;
                    }
                    for (cluster, told) in found.clusters.iter().filter(|(_, t)| !t.record.token.is_empty()) {
                        // Only a cluster of which nothing but its name was known is filled in.
                        match store.cluster_record(cluster)? {
                            Some(kept) if kept.token.is_empty() => {
                                store.put_cluster_record(cluster, kept.generation, &told.record)?;
                            }
                            _ => {}
                        }
                    }
                    observed(&*store)
                };
                let written = write();
                store.unlock(&fence)?;
                written.map(|()| format!("{place} was filled in"))
            };
            write()
        }
    };
    stdout::note(&done.map_err(|e| stop(&e))?);
    Ok(())
}

/// In the place of what is there, which is kept in a file of this host, if there is anything.
fn in_etcd(url: &EtcdUrl, session: &Session, new: &MemoryStore) -> Result<Option<PathBuf>, StoreError> {
    let store = EtcdStore::connect(url)?;
    // The fleet's clusters as they were found: none of them is what this lies in.
    for (name, record) in new.export()?.clusters {
        etcd::guard::not_itself(&name, record.cluster_id.as_deref(), url, &store.cluster_id())?;
    }
    let aside = session.folder.join(format!("etcd-lost-{}.jsonl", clock::unix_ms()));
    let local = |error: std::io::Error| -> StoreError {
        Failure::new(Cause::Local, format!("keep {}", aside.display()), error.to_string()).into()
    };
    std::fs::create_dir_all(&session.folder).map_err(local)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).map_err(local)?;
    let what = format!("keep {}", aside.display());
    store.replace(&new.export()?, move |line| {
        let failed = |e: std::io::Error| Failure::new(Cause::Local, what.as_str(), e.to_string());
        let kept = if line.is_empty() { file.sync_all() } else { file.write_all(line) };
        kept.map_err(|e| StoreError::Failed(failed(e)))
    })?;
    Ok(Some(aside))
}
