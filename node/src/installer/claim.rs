//! The claim: said until someone answers.

use super::Machine;
use crate::api::{Api, CallError, backoff};
use crate::console::say;
use crate::hostkey::{hex, random};
use crate::node_error::{NodeError, Result};
use crate::{clock, dmi};
use rackctl_wire::{API_PATIENCE_S, Claim, ClaimAnswer, PROTOCOL};
use std::sync::Arc;

pub struct Session {
    pub api: Arc<Api>,
    /// Said again, word for word, when the server has forgotten the session.
    pub claim: Claim,
    pub token: String,
}

pub fn make(machine: &Machine) -> Result<Claim> {
    Ok(Claim {
        protocol: PROTOCOL,
        node: machine.line.node.clone(),
        token: machine.seed.token.clone(),
        attempt: hex(&random::<16>()?),
        mac: machine.line.mac.clone(),
        machine: dmi::machine(),
        installer_host_key: machine.installer_key.public_line(),
        system_host_key: machine.system_key.public_line(),
        boot_id: machine.boot_id.clone(),
        cores: dmi::cores(),
        memory_bytes: dmi::memory("MemTotal").unwrap_or(0),
    })
}

/// Tries until the server answers, or has been away for [`API_PATIENCE_S`].
pub async fn patiently(api: &Api, claim: &Claim) -> Result<ClaimAnswer> {
    let deadline = clock::uptime_ms() + API_PATIENCE_S * 1_000;
    let mut attempt = 0;
    loop {
        match api.claim(claim).await {
            Ok(answer) => return Ok(answer),
            Err(refused @ CallError::Refused { .. }) => return Err(NodeError::new("refused", refused.text())),
            Err(CallError::Away(text)) => {
                if clock::uptime_ms() > deadline {
                    let message = format!("{text}; tried for {API_PATIENCE_S} s, giving up");
                    return Err(NodeError::new("network", message));
                }
                say(format!("the API does not answer the claim, trying again: {text}"));
                tokio::time::sleep(backoff(attempt)).await;
                attempt += 1;
            }
        }
    }
}
