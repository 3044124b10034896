//! `lab`: laboratories of emulated machines.

use std::path::Path;

use serde_json::json;

use super::{
    args::lab::{Lab, LabBmcVerb, LabVerb},
    globals::Globals,
};
use crate::{
    lab::{self, LabState, Request, Response},
    model::{Failure, clock, failure::Cause},
    output::{Exit, Stop, Table, stdout},
    run,
};

pub fn run(globals: &Globals, args: &Lab) -> Result<Exit, Stop> {
    if globals.read_only && !matches!(args.verb, LabVerb::List | LabVerb::Console { .. }) {
        return Err(Failure::new(Cause::Guard, "lab", "--read-only: laboratories are neither made, changed nor deleted").into());
    }
    match &args.verb {
        LabVerb::Create(create) => {
            let spec = lab::Spec { name: create.name.clone(), nodes: create.nodes, spares: create.spares, dir: create.dir.clone(), program: None };
            let inventory = lab::create(&spec)?;
            stdout::print(&format!("{}\n", inventory.display()))?;
            stdout::note(&format!("context lab-{} is written; next: rackctl --context lab-{} plan", create.name, create.name));
            Ok(Exit::Done)
        }
        LabVerb::List => list(globals),
        LabVerb::Delete { name } => {
            lab::delete(name)?;
            stdout::note(&format!("laboratory {name} is gone"));
            Ok(Exit::Done)
        }
        LabVerb::Console { name, node } => {
            lab::console(name, node)?;
            Ok(Exit::Done)
        }
        LabVerb::Bmc { verb: LabBmcVerb::Set { lab: name, node, fault } } => {
            answer(lab::control(name, &request(node, fault)?)?)
        }
    }
}

/// `none`, a fault of the BMC, or `certificate`, `bmc-serial=X`, `uuid=X`, `disk-serial=X`: another machine altogether.
fn request(node: &str, fault: &str) -> Result<Request, Stop> {
    let node = node.to_owned();
    let identity = |bmc_serial, uuid, disk_serial| Request::SetIdentity { node: node.clone(), bmc_serial, uuid, disk_serial };
    Ok(match fault.split_once('=').unwrap_or((fault, "")) {
        ("none", "") => Request::Faults { node, faults: json!({}) },
        ("ignore-boot-override", "") => Request::Faults { node, faults: json!({ "ignoreBootOverride": true }) },
        ("power-noop", "") => Request::Faults { node, faults: json!({ "powerNoop": true }) },
        ("certificate", "") => Request::SwapCertificate { node },
        ("bmc-serial", value) if !value.is_empty() => identity(Some(value.to_owned()), None, None),
        ("disk-serial", value) if !value.is_empty() => identity(None, None, Some(value.to_owned())),
        ("uuid", value) => {
            let uuid = value.parse().map_err(|_| Stop::usage(Failure::new(Cause::Refused, "lab bmc set", format!("`{value}` is no UUID"))))?;
            identity(None, Some(uuid), None)
        }
        _ => {
            let why = format!("`{fault}` is no fault; there are none, ignore-boot-override, power-noop, certificate, bmc-serial=X, uuid=X, disk-serial=X");
            return Err(Stop::usage(Failure::new(Cause::Refused, "lab bmc set", why)));
        }
    })
}

fn answer(response: Response) -> Result<Exit, Stop> {
    match response {
        Response::Failed { failure } => Err(failure.into()),
        Response::CertificateSwapped { pin } => {
            stdout::print(&format!("{pin}\n"))?;
            Ok(Exit::Done)
        }
        _ => Ok(Exit::Done),
    }
}

fn list(globals: &Globals) -> Result<Exit, Stop> {
    let labs = lab::list()?;
    let items: Vec<serde_json::Value> = labs
        .iter()
        .map(|l| json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Laboratory", "metadata": { "name": l.name }, "spec": {}, "status": l }))
        .collect();
    let now = run::clock::unix_ms();
    globals.print(&items, |wide| {
        let mut headers = vec!["NAME", "STATE", "NODES", "SPARES", "AGE", "CONTEXT"];
        if wide {
            headers.extend(["NAMESPACE", "PID", "INVENTORY"]);
        }
        let mut table = Table::new(headers);
        for l in &labs {
            let mut row = vec![
                l.name.clone(),
                state(l.state).to_owned(),
                l.nodes.to_string(),
                l.spares.to_string(),
                clock::age(now.saturating_sub(l.since_ms)),
                l.context.clone(),
            ];
            if wide {
                row.extend([l.namespace.clone(), l.pid.map_or("-".to_owned(), |p| p.to_string()), l.inventory.display().to_string()]);
            }
            table.row(row);
        }
        table
    })?;
    Ok(Exit::Done)
}

fn state(state: LabState) -> &'static str {
    match state {
        LabState::Running => "running",
        LabState::Dead => "dead",
    }
}

pub fn supervisor(dir: &Path) -> std::process::ExitCode {
    lab::supervisor::main(dir)
}
