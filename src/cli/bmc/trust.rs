//! `bmc trust`: whom to believe, written into the manifest once a person has said so.

use std::{collections::BTreeMap, io::BufRead};

use serde_json::{Value, json};

use crate::{
    bmc,
    cli::{
        args::bmc::Trust as Args,
        globals::Globals,
        interrupt, looks, manifest, seen,
        session::{Session, block_on},
        targets::{self, Nothing},
    },
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Node, Trust},
    },
    output::{Exit, Stop, Table, stdout},
    run::sessions,
};

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    if args.fingerprint.is_some() && names.len() > 1 {
        let why = "--fingerprint is of one BMC; name one node";
        return Err(Stop::usage(Failure::new(Cause::Refused, "bmc trust", why)));
    }
    session.enter(&names)?;
    let shown = presented(&session, &names)?;
    // Each in its turn: a person compares one fingerprint after the other.
    let mut exits = Vec::new();
    let mut failures = Vec::new();
    let mut items = Vec::new();
    for name in &names {
        let all = endpoints(session.node(name)?);
        if all.is_empty() {
            let why = "the inventory gives it no Redfish endpoint, and IPMI has no key to pin";
            let failure = Failure::new(Cause::Guard, format!("{name}: trust its BMC"), why);
            items.push(item(name, &json!({ "failure": failure })));
            exits.push(Exit::of(failure.cause));
            failures.push(failure);
        }
        for endpoint in all {
            let done = match shown.get(endpoint.url) {
                Some(Ok(pin)) => one(globals, &session, args, name, &endpoint, pin),
                Some(Err(failure)) => Err(failure.clone().into()),
                None => continue,
            };
            let pin = shown.get(endpoint.url).and_then(|shown| shown.as_ref().ok());
            let mut status = json!({ "endpoint": endpoint.url, "pin": pin });
            if let Some(pin) = pin {
                status["was"] = json!(was(endpoint.trust, pin).0);
            }
            match done {
                Ok(pinned) => {
                    status["pinned"] = json!(pinned);
                    exits.push(Exit::Done);
                }
                Err(stop) => {
                    status["failure"] = json!(stop.failures.first());
                    exits.push(stop.exit);
                    failures.extend(stop.failures);
                }
            }
            items.push(item(name, &status));
        }
    }
    if !globals.format.is_for_people() {
        globals.print(&items, |_| Table::new(["NAME"]))?;
    }
    if failures.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Stop { exit: Exit::combine(exits), failures: looks::once(failures) })
}

fn item(name: &str, status: &Value) -> Value {
    json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Bmc", "metadata": { "name": name }, "spec": {}, "status": status })
}

/// One that is reached by Redfish.
#[derive(Debug, PartialEq)]
struct Endpoint<'a> {
    /// Its place in the node's list.
    at: usize,
    url: &'a str,
    /// What is believed of it now.
    trust: &'a Trust,
}

fn endpoints(node: &Node) -> Vec<Endpoint<'_>> {
    let all = node.bmc.iter().flat_map(|bmc| bmc.endpoints.iter().enumerate());
    all.filter_map(|(at, e)| match &e.at {
        EndpointAt::Redfish(url) => Some(Endpoint { at, url, trust: &e.trust }),
        EndpointAt::Ipmi(_) => None,
    })
    .collect()
}

/// The key of each BMC, by its address: side by side, since one that is silent takes seconds to say so.
fn presented(session: &Session, names: &[String]) -> Result<BTreeMap<String, Result<String, Failure>>, Stop> {
    let mut urls: Vec<String> = Vec::new();
    for name in names {
        let new =
            endpoints(session.node(name)?).into_iter().map(|e| e.url.to_owned()).filter(|url| !urls.contains(url));
        let new: Vec<String> = new.collect();
        urls.extend(new);
    }
    block_on(async {
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let look = async |url: &str| {
            tokio::select! {
                pin = bmc::tls::probe_pin(url) => pin,
                () = sessions::stop(&stopped) => {
                    Err(Failure::new(Cause::Interrupted, format!("{url}: read the public key"), "it was interrupted"))
                }
            }
        };
        Ok(looks::each(&urls, session.concurrency, look).await.into_iter().collect())
    })
}

/// What was believed before, in a word and as it is told.
fn was(now: &Trust, pin: &str) -> (&'static str, String) {
    match now {
        Trust::Pin(old) if old == pin => ("pinned", "already pinned".to_owned()),
        Trust::Pin(old) => ("changed", format!("CHANGED: pinned is {old}")),
        Trust::Ca(path) => ("ca", format!("verified by the CA {}", path.display())),
        Trust::None => ("unpinned", "not pinned".to_owned()),
    }
}

/// Whether it is pinned now.
fn one(
    globals: &Globals,
    session: &Session,
    args: &Args,
    name: &str,
    endpoint: &Endpoint<'_>,
    pin: &str,
) -> Result<bool, Stop> {
    let what = || format!("{name}: trust its BMC");
    let (url, now) = (endpoint.url, endpoint.trust);
    if let Some(expected) = &args.fingerprint
        && !pin.eq_ignore_ascii_case(expected)
    {
        let why = format!(
            "{url} presents {pin}, you expect {expected}: another machine answers, or its certificate was renewed"
        );
        return Err(Failure::new(Cause::Untrusted, what(), why).into());
    }
    if globals.format.is_for_people() {
        stdout::print(&format!("{name} {url} {pin} ({})\n", was(now, pin).1))?;
    }
    if matches!(now, Trust::Pin(old) if old == pin) {
        return Ok(true);
    }
    if let Trust::Ca(path) = now {
        let why = format!("the CA {} vouches for it: a pin beside that would be a second way", path.display());
        return Err(Failure::new(Cause::Guard, what(), why).next(format!("rackctl bmc info {name}")).into());
    }
    let place = session.fleet.places.get(&format!("Node/{name}")).map_or("its manifest", String::as_str);
    if args.dry_run || globals.read_only {
        stdout::note(&format!(
            "nothing was written; at the endpoint in {place} would stand:  tls: {{ pin: \"{pin}\" }}"
        ));
        return Ok(false);
    }
    if args.fingerprint.is_none() {
        agreed(name, pin, now, place)?;
    }
    let written = manifest::pin(globals, &session.fleet, name, endpoint.at, pin)
        .map_err(|f| Failure { next: Some(format!("write it by hand in {place}:  tls: {{ pin: \"{pin}\" }}")), ..f })?;
    stdout::note(&format!("{name}: pinned in {written}"));
    Ok(true)
}

/// Nothing is believed by itself: a person compares and says yes, or the fingerprint was given.
fn agreed(name: &str, pin: &str, now: &Trust, place: &str) -> Result<(), Stop> {
    let refused = |why: &str| {
        let failure = Failure::new(Cause::Guard, format!("{name}: trust its BMC"), why);
        Stop::with(Exit::NeedsApproval, failure.next(format!("rackctl bmc trust {name} --fingerprint {pin}")))
    };
    if !stdout::stdin_is_terminal() {
        return Err(refused(
            "nobody has said that this key is the right one: compare it with one that you got another way, and give it",
        ));
    }
    if matches!(now, Trust::Pin(_)) {
        stdout::note("it is another key than the one that was pinned: a new certificate, or another machine");
    }
    stdout::note(
        "compare the fingerprint with one that you got another way: the BMC's own page, its console, its maker",
    );
    stdout::note(&format!("Type `yes` to pin it in {place}, anything else to leave:"));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(refused("it was not agreed to; nothing was written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_endpoints_over_redfish_are_meant_and_no_other() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "name": "n1", "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
            "management": "full", "protect": false, "identity": {"serial": null, "uuid": null, "serialFrom": "serialNumber"},
            "bmc": {"endpoints": [
                {"at": {"ipmi": "10.0.0.1:623"}, "credential": "c", "trust": "none"},
                {"at": {"redfish": "https://10.0.0.1"}, "credential": "c", "trust": {"pin": "sha256:ab"}},
                {"at": {"redfish": "https://10.0.0.2"}, "credential": "c", "trust": "none"},
            ], "system": null, "mac": null, "sharedNic": false},
            "interfaces": [], "disks": {}, "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe",
            "console": null, "minimum": {}, "image": null, "kernelParams": [], "install": null, "services": [],
            "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
        }))
        .unwrap();
        let pinned = Trust::Pin("sha256:ab".into());
        let all = [
            Endpoint { at: 1, url: "https://10.0.0.1", trust: &pinned },
            Endpoint { at: 2, url: "https://10.0.0.2", trust: &Trust::None },
        ];
        assert_eq!(endpoints(&node), all);
    }
}
