//! `inspect`: what the BMCs know and the inventory does not, as manifests to merge. Reads alone.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    args::act::Inspect,
    globals::Globals,
    seen,
    session::{Session, block_on},
    targets::{self, Nothing},
};
use crate::{
    bmc::inspect::{Findings, findings},
    model::{Failure, facts::BmcFacts},
    output::{Exit, Stop, stdout, yaml},
};

const LOOK: Duration = Duration::from_secs(60);

type Looked = (String, Result<(BmcFacts, Findings), Failure>);

pub fn inspect(globals: &Globals, args: &Inspect) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    let looked: Vec<Looked> = block_on(async {
        let passwords = session.passwords(&names).await?;
        let (session, passwords) = (&session, &passwords);
        Ok(stream::iter(names.iter().map(|name| async move {
            let looked = async {
                let node = session.node(name)?;
                let client = session.bmc(node, passwords, LOOK).await?;
                let facts = client.facts().await;
                let _ = client.close().await;
                let facts = facts?;
                let findings = findings(node, &facts);
                Ok((facts, findings))
            }
            .await;
            (name.clone(), looked)
        }))
        .buffered(session.concurrency.max(1))
        .collect()
        .await)
    })?;
    show(globals, looked)
}

fn show(globals: &Globals, looked: Vec<Looked>) -> Result<Exit, Stop> {
    if globals.format.is_for_people() {
        let patches: Vec<&Value> = looked.iter().filter_map(|(_, l)| l.as_ref().ok()?.1.patch.as_ref()).collect();
        stdout::print(&yaml::emit_all(patches))?;
        for (name, findings) in looked.iter().filter_map(|(n, l)| Some((n, &l.as_ref().ok()?.1))) {
            let told = findings.differs.iter().map(|d| format!("differs: {d}")).chain(findings.hints.iter().cloned());
            told.for_each(|line| stdout::note(&format!("{name}: {line}")));
            if findings.patch.is_none() && findings.differs.is_empty() {
                stdout::note(&format!("{name}: the inventory has all that its BMC knows"));
            }
        }
    } else {
        let items: Vec<Value> = looked.iter().map(item).collect();
        globals.print(&items, |_| crate::output::Table::new(["NAME"]))?;
    }
    let exits = looked.iter().map(|(_, l)| match l {
        Ok((_, findings)) if !findings.differs.is_empty() => Exit::Failed,
        Ok(_) => Exit::Done,
        Err(failure) => Exit::of(failure.cause),
    });
    let exit = Exit::combine(exits);
    let failures: Vec<Failure> = looked.into_iter().filter_map(|(_, l)| l.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures }) }
}

fn item((name, looked): &Looked) -> Value {
    let (spec, status) = match looked {
        Ok((facts, findings)) => (
            findings.patch.as_ref().map_or_else(|| json!({}), |p| p["spec"].clone()),
            json!({ "facts": facts, "differs": findings.differs, "hints": findings.hints }),
        ),
        Err(failure) => (json!({}), json!({ "failure": failure })),
    };
    json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Node", "metadata": { "name": name }, "spec": spec, "status": status })
}
