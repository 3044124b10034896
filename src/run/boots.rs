//! What machines boot from, set by whatever way holds, and the way back: what clearing an override does not undo stands in
//! the journal before it is done, so that whoever comes next undoes it (after a crash, in a later run).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{World, machines::close, world::store_failure};
use crate::{
    bmc::{
        self,
        ladder::{Rung, Undo, Wish},
    },
    model::{Failure, Mac, goal::Goal, power::BootOverride},
    store::{Draft, Record, RecordKind, Store, StoreError},
};

/// In a fact's body: what is to be undone.
const LEFT: &str = "bootLeft";
/// In a fact's body: all of it was.
const UNDONE: &str = "bootUndone";
/// In a fact's body: by which way the machine boots, where the first one did not do.
const BOOTED: &str = "booted";
/// Earlier runs that are looked at for what they left, of those that set what a machine boots from.
const RUNS_BACK: usize = 8;

/// Node → what is to be undone, in the order in which it was done.
pub type Left = BTreeMap<String, Vec<Undo>>;

/// Goes on with what earlier records said.
fn fold(records: &[Record], left: &mut Left) {
    for record in records.iter().filter(|r| r.kind == RecordKind::Fact) {
        if record.body.get(UNDONE).is_some() {
            left.remove(&record.subject);
        }
        let undo = record.body.get(LEFT).and_then(|v| serde_json::from_value::<Undo>(v.clone()).ok());
        if let Some(undo) = undo {
            note(left, &record.subject, undo);
        }
    }
}

/// The same twice is once: a step that was begun again after a crash.
pub(super) fn note(left: &mut Left, node: &str, undo: Undo) {
    let list = left.entry(node.to_owned()).or_default();
    if !list.contains(&undo) {
        list.push(undo);
    }
}

/// What runs up to this one left to undo on these nodes. `run`: empty for whoever only looks.
pub fn left(store: &dyn Store, run: &str, nodes: &[String]) -> Result<Left, StoreError> {
    let sets = |goal: &Goal| goal.boots() || matches!(goal, Goal::Boot { .. });
    let heads = store.run_heads()?;
    let about = heads.iter().filter(|h| h.id != run && sets(&h.goal));
    let mut ids: Vec<&str> = about
        .filter(|h| h.goal.scope().0.iter().any(|n| nodes.contains(n)))
        .take(RUNS_BACK)
        .map(|h| h.id.as_str())
        .collect();
    ids.reverse();
    let mut left = Left::new();
    // Whoever only looks has no run.
    for id in ids.into_iter().chain(Some(run).filter(|run| !run.is_empty())) {
        fold(&store.journal(id)?, &mut left);
    }
    Ok(left)
}

fn fact(node: &str, body: Value) -> Draft {
    Draft { subject: node.to_owned(), step: format!("{node}/boot"), attempt: 1, kind: RecordKind::Fact, body }
}

/// By the first way that is read back: override, boot order, IPMI, virtual media. `surer`: that did not help before.
pub(super) async fn set(
    world: &World,
    node: &str,
    client: &bmc::Client,
    want: BootOverride,
    url: Option<&str>,
    surer: bool,
) -> Result<(), Failure> {
    let macs: Vec<Mac> = world.node(node)?.provision().map(|i| i.mac).into_iter().collect();
    let keep = |undo: &Undo| {
        world.gate.check(&format!("{node}: change what it boots from"))?;
        world.append(fact(node, json!({ LEFT: undo }))).map_err(|e| store_failure(&e))?;
        world.note_boot_left(node, undo);
        Ok(())
    };
    let wish = Wish { want, macs: &macs, url, keeps: true, surer };
    let booted = client.boot_from(&wish, Some(&keep)).await?;
    if booted.by != Rung::Override || !booted.before.is_empty() || surer {
        let body = json!({ BOOTED: { "by": booted.by.word(), "words": booted.words, "before": booted.before } });
        world.append(fact(node, body)).map_err(|e| store_failure(&e))?;
    }
    world.note_booted(node, booted.words);
    Ok(())
}

/// No override, and all undone that this run or an earlier one did beside it.
pub(super) async fn clear(world: &World, node: &str) -> Result<(), Failure> {
    let left = world.boot_left(node).map_err(|e| store_failure(&e))?;
    let client = world.bmc(node).await?;
    let done = client.boot_as_ever(&left).await;
    close(client).await;
    done?;
    if !left.is_empty() {
        world.append(fact(node, json!({ UNDONE: true }))).map_err(|e| store_failure(&e))?;
        world.forget_boot_left(node);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            goal::Scope,
            power::{BootTarget, PowerAction},
        },
        store::{Fence, Holder, MemoryStore, RunRecord, RunState},
    };

    fn order(moved: &str) -> Undo {
        Undo::Order { old: vec!["disk".into(), moved.into()], moved: moved.into() }
    }

    fn run(store: &MemoryStore, id: &str, goal: Goal, facts: &[(&str, Value)]) {
        let record = RunRecord {
            id: id.into(),
            started_ms: 0,
            ended_ms: None,
            state: RunState::Running,
            goal,
            plan_hash: String::new(),
            fleet: Value::Null,
            plan: Value::Null,
            actor: Holder::this(),
        };
        store.create_run(&record).unwrap();
        for (node, body) in facts {
            store.append(id, 1, &Fence { locks: vec![], actor: String::new() }, fact(node, body.clone())).unwrap();
        }
    }

    fn boot(node: &str) -> Goal {
        Goal::Boot { nodes: Scope(vec![node.into()]), target: BootTarget::Pxe, persistent: false, url: None }
    }

    // fault: F7 invariant: I11 harness: D
    #[test]
    fn what_a_dead_run_changed_is_undone_by_the_next_and_once() {
        let store = MemoryStore::default();
        run(&store, "r1", boot("n1"), &[("n1", json!({ LEFT: order("net") }))]);
        run(&store, "r2", boot("n2"), &[("n2", json!({ LEFT: Undo::Flags }))]);
        let power = Goal::Power {
            nodes: Scope(vec!["n1".into()]),
            action: PowerAction::On,
            force: false,
            wait: true,
            lose_quorum: false,
        };
        run(&store, "r3", power, &[]);
        let nodes = ["n1".to_owned()];
        let of = |run: &str| left(&store, run, &nodes).unwrap();
        assert_eq!(of("r4").get("n1"), Some(&vec![order("net")]));
        // Begun again after a crash: the same fact is there twice and counts once; the oldest order is the true one.
        run(&store, "r4", boot("n1"), &[("n1", json!({ LEFT: order("net") })), ("n1", json!({ LEFT: Undo::Flags }))]);
        assert_eq!(of("r4").get("n1"), Some(&vec![order("net"), Undo::Flags]));
        run(&store, "r5", boot("n1"), &[("n1", json!({ UNDONE: true }))]);
        assert_eq!(of("r6").get("n1"), None);
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        for undo in [order("net"), Undo::Flags, Undo::Media { image: "http://h/x.iso".into() }] {
            let read: Undo = serde_json::from_value(serde_json::to_value(&undo).unwrap()).unwrap();
            assert_eq!(read, undo);
        }
    }
}
