//! `bmc trust`: whom to believe.

use crate::{
    bmc,
    cli::{
        args::bmc::Trust as Args,
        globals::Globals,
        seen,
        session::{Session, block_on},
        targets::{self, Nothing},
    },
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Trust},
    },
    output::{Exit, Stop, stdout},
};

pub fn run(globals: &Globals, args: &Args) -> Result<Exit, Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, &args.targets)?;
    let names = targets::nodes(&session.fleet, &status, &args.targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    block_on(async { trust(&session, &names, args.fingerprint.as_deref()).await })
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
