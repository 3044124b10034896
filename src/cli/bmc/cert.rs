//! `bmc cert`: certificates that BMCs serve, and new ones.

use std::{io::Read, path::Path, sync::Arc};

use serde::Serialize;

use super::{change, look};
use crate::{
    bmc::certificates::{self, Certificate},
    cli::{args::bmc::Cert, globals::Globals},
    model::{Failure, Secret, bmc::BmcChange, failure::Cause},
    output::{Exit, Stop},
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
    change::run(globals, &args.targets, BmcChange::ReplaceCertificate { pin }, asked)
}
