//! `rackctl lab`

use std::{net::SocketAddr, path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{
    args::lab::{BmcFault, Lab, LabBmcVerb, LabCreate, LabVerb},
    globals::Globals,
};
use crate::{
    lab::{
        self, LabInfo, LabState, Request, Response, Spec,
        bmc::{Fault, Faults},
    },
    model::{Failure, failure::Cause},
    output::{Exit, Stop, Table, age, format::API_VERSION, stdout},
};

pub fn run(globals: &Globals, args: &Lab) -> Result<Exit, Stop> {
    let looks = match &args.verb {
        LabVerb::List | LabVerb::Console { .. } => true,
        LabVerb::Bmc { verb } => matches!(verb, LabBmcVerb::Set { list: true, .. } | LabBmcVerb::Serve { .. }),
        _ => false,
    };
    if globals.read_only && !looks {
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
        LabVerb::Bmc { verb: LabBmcVerb::Set { lab, node, list: true, .. } } => show(globals, lab, node)?,
        LabVerb::Bmc { verb: LabBmcVerb::Set { lab, node, fault, .. } } => set(lab, node, fault)?,
        LabVerb::Bmc { verb: LabBmcVerb::Serve { tree, password_file, listen, fault } } => {
            let nature = fault.iter().fold(Faults::default(), |all, more| more.over(&all));
            serve(tree.as_deref(), password_file, *listen, nature)?;
        }
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
        bmc_faults: args.bmc_fault.clone(),
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

/// What is asked of the supervisor: the whole set of faults, and another key or identity if that is wanted.
fn requests(node: &str, faults: &[BmcFault]) -> Vec<Request> {
    let (mut set, mut swap) = (Faults::default(), false);
    let (mut bmc_serial, mut uuid, mut disk_serial) = (None, None, None);
    // A key or an identity alone changes nothing about the faults that are set.
    let mut replace = faults.is_empty();
    for fault in faults {
        match fault {
            BmcFault::None => replace = true,
            BmcFault::Set(more) => (set, replace) = (more.over(&set), true),
            BmcFault::SwapCertificate => swap = true,
            BmcFault::Serial(text) => bmc_serial = Some(text.clone()),
            BmcFault::Uuid(given) => uuid = Some(*given),
            BmcFault::DiskSerial(text) => disk_serial = Some(text.clone()),
        }
    }
    let node = node.to_owned();
    let mut all = Vec::new();
    if bmc_serial.is_some() || uuid.is_some() || disk_serial.is_some() {
        all.push(Request::SetIdentity { node: node.clone(), bmc_serial, uuid, disk_serial });
    }
    if replace {
        all.push(Request::Faults { node: node.clone(), faults: set });
    }
    if swap {
        all.push(Request::SwapCertificate { node });
    }
    all
}

fn show(globals: &Globals, lab: &str, node: &str) -> Result<(), Stop> {
    let (faults, nature) = match lab::control(lab, &Request::ShowFaults { node: node.to_owned() })? {
        Response::Faults { faults, nature } => (faults, nature),
        Response::Failed { failure } => return Err(failure.into()),
        other => {
            let why = format!("it answered {other:?}");
            return Err(Failure::new(Cause::Malformed, format!("lab {lab}: show the faults of {node}"), why).into());
        }
    };
    let rows: Vec<(Fault, String, bool)> = faults
        .over(&nature)
        .iter()
        .zip(faults.over(&nature).texts())
        .map(|(fault, text)| (fault, text, faults.has(fault)))
        .collect();
    let items: Vec<Value> = rows
        .iter()
        .map(|(fault, text, set)| {
            json!({ "apiVersion": API_VERSION, "kind": "BmcFault", "metadata": { "name": fault.name() },
                    "spec": { "fault": text }, "status": { "does": fault.does(), "source": fault.source(), "set": set } })
        })
        .collect();
    stdout::print(&globals.format.render(&items, stdout::width(), |wide| {
        let mut headers = vec!["FAULT", "SINCE", "DOES"];
        headers.extend(wide.then_some("SOURCE"));
        let mut table = Table::new(headers);
        for (fault, text, set) in &rows {
            let since = if *set { "set" } else { "creation" };
            let mut cells = vec![text.clone(), since.to_owned(), fault.does().to_owned()];
            cells.extend(wide.then(|| fault.source().to_owned()));
            table.row(cells);
        }
        table
    }))
}

fn serve(tree: Option<&Path>, password: &Path, listen: SocketAddr, nature: Faults) -> Result<(), Stop> {
    let shown = lab::bmc::alone(tree, password, listen, nature)?;
    stdout::print(&format!("{}\n", shown.url))?;
    stdout::note(&format!("user admin, password in {}, key {}; ^C ends it", password.display(), shown.pin));
    shown.wait().map_err(Stop::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> BmcFault {
        BmcFault::Set(Faults::parse_one(text).unwrap())
    }

    #[test]
    fn what_is_not_named_ends_and_identity_is_no_fault() {
        let all = requests("n1", &[set("ignore-boot-override"), set("power-lag=5s"), set("power-lag=1s")]);
        let faults = Faults::parse(["ignore-boot-override", "power-lag=1s"]).unwrap();
        assert_eq!(all, [Request::Faults { node: "n1".into(), faults }]);
        let none = Request::Faults { node: "n1".into(), faults: Faults::default() };
        assert_eq!(requests("n1", &[BmcFault::None]), std::slice::from_ref(&none));
        assert_eq!(requests("n1", &[]), [none]);
        assert_eq!(requests("n1", &[BmcFault::SwapCertificate]), [Request::SwapCertificate { node: "n1".into() }]);
        assert_eq!(requests("n1", &[BmcFault::None, BmcFault::SwapCertificate]).len(), 2);
        let identity = requests("n1", &[BmcFault::Serial("X".into())]);
        assert!(matches!(&identity[..], [Request::SetIdentity { bmc_serial: Some(serial), .. }] if serial == "X"));
    }
}
