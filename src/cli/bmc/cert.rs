//! `bmc cert`: certificates that BMCs serve, and new ones.

use std::{io::Read, path::Path, sync::Arc};

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::certificates::{self, Certificate},
    cli::{args::bmc::Cert, globals::Globals, manifest, session::Session},
    model::{
        Failure, Secret,
        bmc::BmcChange,
        failure::Cause,
        fleet::{EndpointAt, Trust},
    },
    output::{Exit, Stop, stdout},
};

#[derive(Serialize)]
struct Said {
    certificates: Vec<Certificate>,
}

pub fn run(globals: &Globals, args: &Cert) -> Result<Exit, Stop> {
    if let Some(path) = &args.replace {
        return replace(globals, args, path);
    }
    let rows = look::over(globals, &args.targets, |client| {
        Box::pin(
            async move { Ok(Said { certificates: client.redfish("read its certificates")?.certificates().await? }) },
        )
    })?;
    look::show(
        globals,
        rows,
        |wide| {
            if wide {
                vec!["ID", "FOR", "SUBJECT", "ISSUER", "FROM", "UNTIL", "SERIAL"]
            } else {
                vec!["ID", "FOR", "SUBJECT", "ISSUER", "UNTIL"]
            }
        },
        |said, wide| {
            let line = |c: &Certificate| {
                let mut line = vec![
                    c.id.clone(),
                    if c.https { "https" } else { "-" }.to_owned(),
                    look::or_dash(&c.subject),
                    look::or_dash(&c.issuer),
                ];
                line.extend(wide.then(|| look::or_dash(&c.valid_from)));
                line.push(look::or_dash(&c.valid_until));
                line.extend(wide.then(|| look::or_dash(&c.serial)));
                line
            };
            said.certificates.iter().map(line).collect()
        },
    )
}

/// Bytes of a certificate with its chain and key.
const MAX_BYTES: u64 = 256 * 1024;

/// One BMC: two with the same key could not be told apart.
fn replace(globals: &Globals, args: &Cert, path: &Path) -> Result<Exit, Stop> {
    let what = format!("read the certificate {}", path.display());
    let fault = |why: String| Stop::usage(Failure::new(Cause::Local, &what, why));
    let (_, names) = look::chosen(globals, &args.targets)?;
    if names.len() > 1 {
        return Err(fault("a certificate is of one BMC; name one node".to_owned()));
    }
    let mut text = String::new();
    let open = std::fs::File::open(path).map_err(|e| fault(e.to_string()))?;
    open.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| fault(e.to_string()))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(fault(format!("it has more than {MAX_BYTES} bytes")));
    }
    let pem = Arc::new(Secret::new(text));
    let pin = certificates::pin_of_pem(pem.expose()).map_err(fault)?;
    let asked =
        change::Asked { yes: args.yes, dry_run: args.dry.dry_run, secret: Some(pem), ..change::Asked::default() };
    let dry_run = asked.dry_run;
    let exit = change::run(globals, &args.targets, BmcChange::ReplaceCertificate { pin: pin.clone() }, asked)?;
    if let (Exit::Done, false, Some(name)) = (exit, dry_run, names.first()) {
        believe(globals, name, &pin)?;
    }
    Ok(exit)
}

/// Where the old key was pinned, the new one is pinned now: it was handed over by whoever asks, and seen at a handshake.
/// Every later verb would refuse it otherwise.
fn believe(globals: &Globals, name: &str, pin: &str) -> Result<(), Stop> {
    let session = Session::open(globals)?;
    let endpoints = session.node(name)?.bmc.iter().flat_map(|b| &b.endpoints).enumerate();
    let first = endpoints.into_iter().find(|(_, e)| matches!(e.at, EndpointAt::Redfish(_)));
    let Some((at, Trust::Pin(old))) = first.map(|(at, e)| (at, &e.trust)) else { return Ok(()) };
    if old == pin {
        return Ok(());
    }
    match manifest::pin(globals, &session.fleet, name, at, pin) {
        Ok(place) => stdout::note(&format!("{name}: pinned in {place}")),
        // Done and not to be believed yet: the change is no failure.
        Err(failure) => stdout::note(&format!(
            "warning: {name}: its new key could not be pinned in the inventory ({}); next: rackctl bmc trust {name} \
             --fingerprint {pin}",
            failure.why
        )),
    }
    Ok(())
}
