//! The power state of a machine whose system is known: one request, without a session.
//!
//! A log-in costs three requests (open, read, close) and one of the few sessions that a BMC has; over a fleet that is
//! most of the time. Basic authentication (DSP0266 13.3.2) does with one.

use super::{
    Options, Passwords, ROOT,
    send::{Auth, Request, Wire},
    session,
};
use crate::{
    bmc::{link, read, redfish::wire::ComputerSystem},
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Node},
        power::PowerState,
    },
};

/// `None`: it cannot be told that way (no system is named, the BMC has no such system, it takes no Basic
/// authentication, the first endpoint is silent and there are others): log in.
///
/// # Errors
/// What a log-in would meet too: nobody answers, the key is another one, the password is refused.
pub async fn glance(node: &Node, passwords: &Passwords, options: &Options) -> Result<Option<PowerState>, Failure> {
    let Some(bmc) = &node.bmc else { return Ok(None) };
    let (Some(system), Some(endpoint)) = (&bmc.system, bmc.endpoints.first()) else { return Ok(None) };
    let EndpointAt::Redfish(url) = &endpoint.at else { return Ok(None) };
    let login = passwords.get(&node.name, &endpoint.credential)?;
    let wire = Wire::new(&node.name, url, &endpoint.trust, login, options)?;
    match look(&wire, &path(system), options).await {
        Err(failure) if bmc.endpoints.len() > 1 && elsewhere(failure.cause) => Ok(None),
        result => result,
    }
}

/// Another endpoint may do what this one cannot.
fn elsewhere(cause: Cause) -> bool {
    matches!(cause, Cause::Unreachable | Cause::Deadline | Cause::Busy | Cause::Refused | Cause::Malformed)
}

fn path(system: &str) -> String {
    if system.starts_with('/') { system.to_owned() } else { format!("{ROOT}Systems/{system}") }
}

async fn look(wire: &Wire, path: &str, options: &Options) -> Result<Option<PowerState>, Failure> {
    let limit = options.deadline;
    if !wire.proof.accepted() {
        let root = session::within(wire, limit, session::greet(wire)).await?;
        let turn = session::turn(wire).await?;
        if turn.is_first() {
            // A BMC may have Basic switched off and say 401 to a right password: a session tells it for certain.
            let result = session::within(wire, limit, session::first_log_in(wire, &root)).await;
            session::settle(wire, turn, &result);
            result?;
            let state = session::within(wire, limit, state(wire, path)).await;
            // Noted in the ledger until its end was answered.
            let _ = session::leave(wire).await;
            return state;
        }
    }
    wire.set_auth(Auth::Basic);
    session::within(wire, limit, state(wire, path)).await
}

async fn state(wire: &Wire, path: &str) -> Result<Option<PowerState>, Failure> {
    let request = Request::get(path);
    let answer = wire.send(&request).await?;
    match answer.status {
        200..300 => Ok(told(&super::parsed(answer.body), path)),
        401 if !answer.takes_basic => Ok(None),
        401 | 403 | 429 | 503 => Err(wire.refusal(&request, &answer)),
        _ => Ok(None),
    }
}

/// Only of the system that was asked for, and only a word that says something.
fn told(system: &ComputerSystem, path: &str) -> Option<PowerState> {
    let id = system.id.as_deref().or(system.odata_id.as_deref().map(link::last_segment))?;
    let power = read::power(system.power);
    (id == link::last_segment(path) && power != PowerState::Unknown).then_some(power)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bmc::redfish::wire::parse;

    #[test]
    fn only_the_system_that_was_asked_for_counts() {
        let of = |body, system: &str| told(&parse(body), &path(system));
        assert_eq!(of(json!({"Id": "1", "PowerState": "On"}), "1"), Some(PowerState::On));
        assert_eq!(of(json!({"@odata.id": "/redfish/v1/Systems/a/", "PowerState": "Off"}), "a"), Some(PowerState::Off));
        assert_eq!(of(json!({"Id": "2", "PowerState": "On"}), "1"), None, "another system answers");
        assert_eq!(of(json!({"Id": "1", "PowerState": null}), "1"), None);
        assert_eq!(of(json!({"PowerState": "On"}), "1"), None, "whose power that is cannot be told");
        assert_eq!(of(json!([]), "1"), None);
        assert_eq!(path("/redfish/v1/Systems/x"), "/redfish/v1/Systems/x");
    }
}
