//! `bmc trust`: whom to believe, written into the manifest once a person has said so.

use std::io::BufRead;

use crate::{
    bmc,
    cli::{
        args::bmc::Trust as Args,
        globals::Globals,
        manifest, seen,
        session::{Session, block_on},
        targets::{self, Nothing},
    },
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Node, Trust},
    },
    output::{Exit, Stop, stdout},
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
    // Each in its turn: a person compares one fingerprint after the other.
    let mut exits = Vec::new();
    let mut failures = Vec::new();
    for name in &names {
        match one(globals, &session, args, name) {
            Ok(()) => exits.push(Exit::Done),
            Err(stop) => {
                exits.push(stop.exit);
                failures.extend(stop.failures);
            }
        }
    }
    if failures.is_empty() { Ok(Exit::Done) } else { Err(Stop { exit: Exit::combine(exits), failures }) }
}

/// The first endpoint over Redfish: its place in the list, address and what is believed of it now.
fn endpoint(node: &Node) -> Option<(usize, &str, &Trust)> {
    let endpoints = node.bmc.as_ref()?.endpoints.iter().enumerate();
    endpoints.into_iter().find_map(|(at, e)| match &e.at {
        EndpointAt::Redfish(url) => Some((at, url.as_str(), &e.trust)),
        EndpointAt::Ipmi(_) => None,
    })
}

fn one(globals: &Globals, session: &Session, args: &Args, name: &str) -> Result<(), Stop> {
    let what = || format!("{name}: trust its BMC");
    let Some((at, url, now)) = endpoint(session.node(name)?) else {
        let why = "the inventory gives it no Redfish endpoint, and IPMI has no key to pin";
        return Err(Failure::new(Cause::Guard, what(), why).into());
    };
    let pin = block_on(async { Ok(bmc::tls::probe_pin(url).await?) })?;
    if let Some(expected) = &args.fingerprint
        && !pin.eq_ignore_ascii_case(expected)
    {
        let why = format!(
            "it presents {pin}, you expect {expected}: another machine answers, or its certificate was renewed"
        );
        return Err(Failure::new(Cause::Untrusted, what(), why).into());
    }
    let state = match now {
        Trust::Pin(old) if *old == pin => "already pinned".to_owned(),
        Trust::Pin(old) => format!("CHANGED: pinned is {old}"),
        Trust::Ca(path) => format!("verified by the CA {}", path.display()),
        Trust::None => "not pinned".to_owned(),
    };
    stdout::print(&format!("{name} {url} {pin} ({state})\n"))?;
    if matches!(now, Trust::Pin(old) if *old == pin) {
        return Ok(());
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
        return Ok(());
    }
    if args.fingerprint.is_none() {
        agreed(name, &pin, now, place)?;
    }
    let written = manifest::pin(globals, &session.fleet, name, at, &pin)
        .map_err(|f| Failure { next: Some(format!("write it by hand in {place}:  tls: {{ pin: \"{pin}\" }}")), ..f })?;
    stdout::note(&format!("{name}: pinned in {written}"));
    Ok(())
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
    fn the_first_endpoint_over_redfish_is_meant() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "name": "n1", "labels": {}, "site": null, "hardwareClass": null, "profile": null, "lifecycle": "active",
            "management": "full", "protect": false, "identity": {"serial": null, "uuid": null, "serialFrom": "serialNumber"},
            "bmc": {"endpoints": [
                {"at": {"ipmi": "10.0.0.1:623"}, "credential": "c", "trust": "none"},
                {"at": {"redfish": "https://10.0.0.1"}, "credential": "c", "trust": {"pin": "sha256:ab"}},
            ], "system": null, "mac": null, "sharedNic": false},
            "interfaces": [], "disks": {}, "location": {}, "arch": "amd64", "bootMode": "uefi", "bootMethod": "pxe",
            "console": null, "minimum": {}, "image": null, "kernelParams": [], "install": null, "services": [],
            "ssh": {"user": null, "identity": null, "authorizedKeys": []}, "dns": []
        }))
        .unwrap();
        assert_eq!(endpoint(&node), Some((1, "https://10.0.0.1", &Trust::Pin("sha256:ab".into()))));
    }
}
