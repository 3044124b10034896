//! `state rebuild` in the simulated world: what the machines and clusters say now becomes the state, by the product's
//! own rules ([`crate::run::rebuild`]).

use std::{collections::BTreeMap, rc::Rc};

use super::{
    drivers::Doing,
    exec::{Ctx, sleep},
    log::What,
    machine, member_drivers,
    operator::{Ending, look_at_bmc},
    tool::{Tool, failed},
    watch,
};
use crate::{
    bmc::identity,
    model::{
        Failure,
        facts::{InstallPhase, NodeFacts, NodeRecord, Observed},
    },
    run::rebuild::{self, Told},
    store::Store,
};

/// The host key that a machine shows at its console now.
fn shown(ctx: &Ctx, node: &str) -> Option<String> {
    let world = ctx.world();
    let m = world.number.get(node).and_then(|i| world.machines.get(*i))?;
    (m.running == machine::Running::System).then(|| m.system().map(|(_, s)| s.host_key.clone()))?
}

pub async fn rebuild(
    ctx: &Ctx,
    tool: &Rc<Tool>,
    hints: &BTreeMap<String, NodeRecord>,
    known: u32,
) -> Result<Ending, Failure> {
    let fleet = Rc::clone(&tool.fleet);
    let (mut records, mut systems) = (BTreeMap::new(), BTreeMap::new());
    for (name, spec) in &fleet.nodes {
        // People compare the key at the console, or there is one in what could still be read.
        let compares = ctx.world().rng.chance(known);
        let key = shown(ctx, name)
            .filter(|_| compares)
            .or_else(|| hints.get(name).map(|h| h.system_host_key.clone()).filter(|k| !k.is_empty()));
        let d = Doing::new(ctx, tool, name, &format!("{name}/look"), 1);
        let bmc = look_at_bmc(ctx, &d).await;
        let mut facts = NodeFacts::default();
        if let Ok(seen) = &bmc
            && let Err(differing) = identity::compare(&spec.identity, seen)
        {
            facts.identity_mismatches = differing.iter().map(ToString::to_string).collect();
        }
        let at = tool.unix_ms(ctx);
        facts.bmc = Some(Observed { at, value: bmc });
        if let Some(key) = &key {
            sleep(ctx, 50).await;
            let value = machine::status(ctx, d.machine, key);
            if let Ok(status) = &value {
                systems.insert(name.clone(), status.clone());
            }
            facts.system = Some(Observed { at: tool.unix_ms(ctx), value });
        }
        let told = rebuild::node(spec, &facts, key.as_deref(), None, hints.get(name), &tool.run, at);
        records.insert(name.clone(), told.record);
    }
    let mut clusters = BTreeMap::new();
    for (name, spec) in &fleet.clusters {
        let installed = |m: &&String| records.get(*m).is_some_and(|r| r.phase == InstallPhase::Installed);
        let members: Vec<usize> =
            spec.members.iter().filter(installed).filter_map(|m| ctx.world().number.get(m).copied()).collect();
        let seen = match (spec.members.first(), members.is_empty()) {
            (Some(first), false) => {
                let d = Doing::new(ctx, tool, first, &format!("cluster/{name}/look"), 1);
                member_drivers::cluster_facts(&d, &members).await.ok().map(|f| f.cluster_id)
            }
            _ => None,
        };
        if let Some(Told { record, .. }) = rebuild::cluster(spec, &records, &systems, seen.as_deref(), &tool.run) {
            clusters.insert(name.clone(), record);
        }
    }
    // The new state takes the place of the old one in one go.
    let told: Vec<String> = records.iter().map(|(n, r)| format!("{n} {:?}", r.phase)).collect();
    {
        let mut world = ctx.world();
        if world.durable.others_live(tool.process) {
            return Ok(Ending::Locked);
        }
        // The old journal is put aside whole.
        watch::chain(&mut world, tool.meddle.as_ref());
        world.durable.replace(None);
        world.durable.unbelieved.set(false);
        let store = world.durable.store();
        for (name, record) in &records {
            store.put_node_record(name, record).map_err(|e| failed(&e))?;
        }
        for (name, record) in &clusters {
            store.put_cluster_record(name, 0, record).map_err(|e| failed(&e))?;
        }
        world.happened(What::Note { text: format!("rebuilt: {}; {:?}", told.join(", "), clusters.keys()) });
    }
    Ok(Ending::Nothing { refused: 0 })
}
