//! Which ResetType brings a power action about, of those that the BMC allows. Pure.

use super::{boot::Write, read::SystemView, redfish::wire::ResetRequest};
use crate::model::power::{PowerAction, PowerState};

/// ResetType words for an action, best first (DSP8010, Resource.ResetType).
fn words(action: PowerAction) -> &'static [&'static str] {
    match action {
        PowerAction::On => &["On", "ForceOn"],
        PowerAction::GracefulShutdown => &["GracefulShutdown"],
        // Cray EX says `Off`.
        PowerAction::ForceOff => &["ForceOff", "Off"],
        PowerAction::ForceRestart => &["ForceRestart", "PowerCycle"],
        PowerAction::GracefulRestart => &["GracefulRestart"],
        // HPE and AMI have no PowerCycle.
        PowerAction::PowerCycle => &["PowerCycle", "ForceRestart"],
    }
}

/// The word to send. Where the BMC does not say what it allows, Redfish's first word is tried.
pub fn choose(action: PowerAction, allowed: &[String]) -> Result<&'static str, String> {
    let words = words(action);
    let found = if allowed.is_empty() { words.first() } else { words.iter().find(|w| allowed.iter().any(|a| a == *w)) };
    found.copied().ok_or_else(|| {
        let offered = super::redfish::json::clean(&allowed.join(", "));
        format!("the BMC allows no `{}`; it allows: {offered}", words.join("` or `"))
    })
}

pub fn request(view: &SystemView, action: PowerAction) -> Result<Write, String> {
    let kind = choose(action, &view.reset_types)?;
    let reset = view.system.actions.as_ref().and_then(|a| a.reset.as_ref()).ok_or("the system has no Reset action")?;
    let fallback = || format!("{}/Actions/ComputerSystem.Reset", view.path.trim_end_matches('/'));
    let path = reset.target.clone().filter(|t| !t.is_empty()).unwrap_or_else(fallback);
    let body = serde_json::to_value(ResetRequest { kind: Some(kind.to_owned()) }).unwrap_or_default();
    Ok(Write { method: "POST", path, body, if_match: None })
}

/// Whether the state is the wished one: a transition counts as neither.
pub fn reached(on: bool, state: PowerState) -> bool {
    matches!((on, state), (true, PowerState::On) | (false, PowerState::Off))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn vendors_lists() {
        let ami = list(&["On", "ForceOff", "ForceRestart", "GracefulShutdown"]);
        assert_eq!(choose(PowerAction::PowerCycle, &ami), Ok("ForceRestart"));
        assert!(
            choose(PowerAction::GracefulRestart, &ami)
                .is_err_and(|e| e.contains("GracefulRestart") && e.contains("ForceOff"))
        );
        let cray = list(&["On", "Off"]);
        assert_eq!(choose(PowerAction::ForceOff, &cray), Ok("Off"));
        assert_eq!(choose(PowerAction::ForceOff, &[]), Ok("ForceOff"));
        assert_eq!(choose(PowerAction::On, &list(&["ForceOn"])), Ok("ForceOn"));
    }

    // fault: F20 invariant: I15 harness: D
    #[test]
    fn transitions_are_not_arrival() {
        assert!(reached(true, PowerState::On) && reached(false, PowerState::Off));
        for state in [PowerState::PoweringOn, PowerState::PoweringOff, PowerState::Unknown] {
            assert!(!reached(true, state) && !reached(false, state));
        }
    }
}
