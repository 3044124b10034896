//! `bmc info|trust`: what a BMC says, and whom to believe.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    args::act::{Bmc, BmcVerb},
    bmc_login::bmc_login,
    bmc_scan::bmc_scan,
    globals::Globals,
    seen,
    session::{Session, block_on},
    targets::{self, Nothing},
};
use crate::{
    bmc,
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Trust},
    },
    output::{Exit, Stop, Table, stdout},
};

const LOOK: Duration = Duration::from_secs(60);

pub fn bmc(globals: &Globals, args: &Bmc) -> Result<Exit, Stop> {
    let targets = match &args.verb {
        BmcVerb::Scan(scan) => return bmc_scan(globals, scan),
        BmcVerb::Info { targets } | BmcVerb::Trust { targets, .. } => targets,
        BmcVerb::Login(login) => &login.targets,
    };
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    block_on(async {
        match &args.verb {
            BmcVerb::Trust { fingerprint, .. } => trust(&session, &names, fingerprint.as_deref()).await,
            BmcVerb::Login(login) => bmc_login(globals, &session, &names, login).await,
            _ => info(globals, &session, &names).await,
        }
    })
}

async fn info(globals: &Globals, session: &Session, names: &[String]) -> Result<Exit, Stop> {
    let passwords = session.passwords(names).await?;
    let passwords = &passwords;
    let mut rows: Vec<(String, Result<Value, Failure>)> = stream::iter(names.iter().map(|name| async move {
        let result = async {
            let client = session.bmc(session.node(name)?, passwords, LOOK).await?;
            let seen = async { Ok::<_, Failure>((client.facts().await?, client.bmc_info().await?)) }.await;
            let _ = client.close().await;
            let (facts, manager) = seen?;
            Ok(json!({ "facts": facts, "manager": manager }))
        }
        .await;
        (name.clone(), result)
    }))
    .buffer_unordered(session.concurrency.max(1))
    .collect()
    .await;
    rows.sort_by_key(|(name, _)| names.iter().position(|n| n == name));
    let items: Vec<Value> = rows
        .iter()
        .map(|(name, result)| {
            let status = result.as_ref().map_or_else(|f| json!({ "failure": f }), Clone::clone);
            json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Bmc", "metadata": { "name": name }, "spec": {}, "status": status })
        })
        .collect();
    globals.print(&items, |wide| {
        let mut headers = vec!["NAME", "VENDOR", "MODEL", "SERIAL", "POWER", "BIOS", "BMC"];
        if wide {
            headers.extend(["UUID", "DISKS", "ENDPOINT"]);
        }
        let mut table = Table::new(headers);
        for (name, result) in &rows {
            let facts = result.as_ref().map_or(Value::Null, |v| v["facts"].clone());
            let text = |field: &str| facts[field].as_str().unwrap_or("-").to_owned();
            let mut row = vec![
                name.clone(),
                text("manufacturer"),
                text("model"),
                text("serial"),
                text("power"),
                text("biosVersion"),
                text("bmcVersion"),
            ];
            if wide {
                let disks: Vec<String> = facts["drives"]
                    .as_array()
                    .map(|d| d.iter().map(|d| d["serial"].as_str().unwrap_or("?").to_owned()).collect())
                    .unwrap_or_default();
                row.extend([text("uuid"), disks.join(","), text("endpoint")]);
            }
            table.row(row);
        }
        table
    })?;
    let exit = Exit::combine(rows.iter().map(|(_, r)| r.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
    let failures: Vec<Failure> = rows.into_iter().filter_map(|(_, r)| r.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures }) }
}

/// Prints the line for the manifest. Nothing is believed by itself: a person compares, or gives the fingerprint.
async fn trust(session: &Session, names: &[String], expected: Option<&str>) -> Result<Exit, Stop> {
    if expected.is_some() && names.len() > 1 {
        return Err(Stop::usage(Failure::new(
            Cause::Refused,
            "bmc trust",
            "--fingerprint is of one BMC; name one node",
        )));
    }
    let mut failures = Vec::new();
    for name in names {
        let node = session.node(name)?;
        let Some((url, now)) = node.bmc.as_ref().and_then(|b| {
            b.endpoints.iter().find_map(|e| {
                if let EndpointAt::Redfish(url) = &e.at { Some((url.clone(), e.trust.clone())) } else { None }
            })
        }) else {
            failures.push(Failure::new(
                Cause::Guard,
                format!("{name}: trust its BMC"),
                "the inventory gives it no Redfish endpoint",
            ));
            continue;
        };
        let pin = match bmc::tls::probe_pin(&url).await {
            Ok(pin) => pin,
            Err(failure) => {
                failures.push(failure);
                continue;
            }
        };
        if let Some(expected) = expected
            && !pin.eq_ignore_ascii_case(expected)
        {
            failures.push(Failure::new(
                Cause::Untrusted,
                format!("{name}: trust its BMC"),
                format!(
                    "it presents {pin}, you expect {expected}: another machine answers, or its certificate was renewed"
                ),
            ));
            continue;
        }
        let state = match &now {
            Trust::Pin(old) if *old == pin => "already pinned".to_owned(),
            Trust::Pin(old) => format!("CHANGED: pinned is {old}"),
            Trust::Ca(path) => format!("verified by the CA {}", path.display()),
            Trust::None => "not pinned".to_owned(),
        };
        stdout::print(&format!("{name} {url} {pin} ({state})\n"))?;
        if matches!(&now, Trust::Pin(old) if *old == pin) {
            continue;
        }
        let place = session.fleet.places.get(&format!("Node/{name}")).map_or("its manifest", String::as_str);
        stdout::note(&format!("to pin it, write at the endpoint in {place}:  tls: {{ pin: \"{pin}\" }}"));
        if expected.is_none() {
            stdout::note("compare the fingerprint with one that you got another way before you do");
        }
    }
    if failures.is_empty() { Ok(Exit::Done) } else { Err(failures.into()) }
}
