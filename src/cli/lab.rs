//! `rackctl lab`

use std::{path::Path, process::ExitCode};

use serde_json::{Map, Value, json};

use super::{
    args::lab::{BmcFault, Lab, LabBmcVerb, LabCreate, LabVerb},
    globals::Globals,
};
use crate::{
    lab::{self, LabInfo, LabState, Request, Response, Spec},
    model::{Failure, failure::Cause},
    output::{Exit, Stop, Table, age, format::API_VERSION, stdout},
};

pub fn run(globals: &Globals, args: &Lab) -> Result<Exit, Stop> {
    if globals.read_only && !matches!(args.verb, LabVerb::List | LabVerb::Console { .. }) {
        let why = "--read-only: laboratories are neither made, changed nor deleted";
        return Err(Failure::new(Cause::Guard, "lab", why).into());
    }
    match &args.verb {
        LabVerb::Create(args) => create(args)?,
        LabVerb::List => list(globals)?,
        LabVerb::Delete { name } => {
            lab::delete(name)?;
            stdout::note(&format!("laboratory {name} is gone"));
        }
        LabVerb::Console { name, node } => lab::console(name, node)?,
        LabVerb::Bmc { verb: LabBmcVerb::Set { lab, node, fault } } => set(lab, node, fault)?,
    }
    Ok(Exit::Done)
}

/// The process that owns a laboratory.
pub fn supervisor(dir: &Path) -> ExitCode {
    lab::supervisor::main(dir)
}

/// A command of a simulated machine.
pub fn node(control: &Path, node: &str) -> ExitCode {
    lab::simulated::node_client::main(control, node)
}

fn create(args: &LabCreate) -> Result<(), Stop> {
    let dir =
        match &args.dir {
            Some(dir) => Some(std::path::absolute(dir).map_err(|e| {
                Failure::new(Cause::Local, format!("lab create --dir {}", dir.display()), e.to_string())
            })?),
            None => None,
        };
    let simulated = args.simulated.then(|| {
        let default = lab::simulated::Timing::default();
        let write_ms = args.write_time.map_or(default.write_ms, |time| time.as_millis() as u64);
        lab::simulated::Timing { write_ms, ..default }
    });
    let spec = Spec {
        nodes: args.nodes,
        spares: args.spares,
        cluster_size: args.cluster_size,
        simulated,
        dir,
        ..Spec::new(args.name.clone())
    };
    let inventory = lab::create(&spec)?;
    stdout::print(&format!("{}\n", inventory.display()))?;
    let context = lab::context::context(&args.name);
    stdout::note(&format!(
        "{} machines are powered off and their BMCs answer; next: rackctl --context {context} apply --allow data-loss",
        args.nodes + args.spares
    ));
    Ok(())
}

fn list(globals: &Globals) -> Result<(), Stop> {
    let labs = lab::list()?;
    let items: Vec<Value> = labs
        .iter()
        .map(|lab| {
            json!({ "apiVersion": API_VERSION, "kind": "Lab", "metadata": { "name": lab.name }, "spec": {}, "status": lab })
        })
        .collect();
    stdout::print(&globals.format.render(&items, stdout::width(), |wide| table(&labs, wide, age::now())))
}

fn table(labs: &[LabInfo], wide: bool, now: u64) -> Table {
    let mut headers = vec!["NAME", "STATE", "NODES", "SPARES", "AGE", "CONTEXT"];
    headers.extend(wide.then_some(["NAMESPACE", "PID"]).into_iter().flatten());
    headers.push("INVENTORY");
    let mut table = Table::new(headers);
    for lab in labs {
        let state = match lab.state {
            LabState::Running => "running",
            LabState::Dead => "dead",
        };
        let mut cells = vec![
            lab.name.clone(),
            state.to_owned(),
            lab.nodes.to_string(),
            lab.spares.to_string(),
            age::since(now, lab.since_ms),
            lab.context.clone(),
        ];
        if wide {
            cells.extend([lab.namespace.clone(), lab.pid.map(|pid| pid.to_string()).unwrap_or_default()]);
        }
        cells.push(lab.inventory.display().to_string());
        table.row(cells);
    }
    table
}

fn set(lab: &str, node: &str, faults: &[BmcFault]) -> Result<(), Stop> {
    for request in requests(node, faults) {
        match lab::control(lab, &request)? {
            Response::Failed { failure } => return Err(failure.into()),
            Response::CertificateSwapped { pin } => stdout::note(&format!("{node}: its BMC now has the key {pin}")),
            _ => {}
        }
    }
    Ok(())
}

/// What is asked of the supervisor: the whole set of faults, and another key if that is wanted.
fn requests(node: &str, faults: &[BmcFault]) -> Vec<Request> {
    let mut map = Map::new();
    let mut swap = false;
    for fault in faults {
        let name = match fault {
            BmcFault::None => continue,
            BmcFault::IgnoreBootOverride => "ignoreBootOverride",
            BmcFault::PowerNoop => "powerNoop",
            BmcFault::LoseResetAnswer => "loseResetAnswer",
            BmcFault::SwapCertificate => {
                swap = true;
                continue;
            }
        };
        map.insert(name.to_owned(), true.into());
    }
    let mut all = Vec::new();
    // A key alone changes nothing about the faults that are set.
    if !swap || faults.len() > 1 {
        all.push(Request::Faults { node: node.to_owned(), faults: Value::Object(map) });
    }
    if swap {
        all.push(Request::SwapCertificate { node: node.to_owned() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::bmc::Faults;

    fn faults(request: &Request) -> Faults {
        let Request::Faults { faults, .. } = request else { panic!("{request:?}") };
        serde_json::from_value(faults.clone()).unwrap()
    }

    #[test]
    fn faults_are_those_that_the_bmc_knows() {
        let all = requests("n1", &[BmcFault::IgnoreBootOverride, BmcFault::PowerNoop, BmcFault::LoseResetAnswer]);
        let set = faults(&all[0]);
        assert!(set.ignore_boot_override && set.power_noop && set.lose_reset_answer);
        assert_eq!(faults(&requests("n1", &[BmcFault::None])[0]), Faults::default());
        assert_eq!(requests("n1", &[BmcFault::SwapCertificate]), [Request::SwapCertificate { node: "n1".into() }]);
        assert_eq!(requests("n1", &[BmcFault::None, BmcFault::SwapCertificate]).len(), 2);
    }
}
