//! Fleet and plan of a run, kept apart from it and once: by the SHA-256 of their JSON. A hundred runs of a fleet of
//! ten thousand nodes name the same one. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{RunRecord, StoreError};
use crate::model::{Failure, failure::Cause};

/// Before a digest, where a run has the name of a part in the part's place. Fleets and plans are JSON objects.
const MARK: &str = "sha256:";

/// A part: its name, and its JSON as it was written.
pub(super) type Part<'a> = (String, Cow<'a, str>);

/// What a part of this text is called.
pub(super) fn name(text: &str) -> String {
    format!("{MARK}{}", hex::encode(Sha256::digest(text)))
}

/// The name that stands in a part's place; `None`: it is the part itself, as older versions kept it.
pub(super) fn named(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.starts_with(MARK))
}

/// The run with names in the places of its parts.
pub(super) fn without(run: &RunRecord, fleet: String, plan: String) -> RunRecord {
    RunRecord {
        id: run.id.clone(),
        started_ms: run.started_ms,
        ended_ms: run.ended_ms,
        state: run.state,
        goal: run.goal.clone(),
        plan_hash: run.plan_hash.clone(),
        fleet: Value::String(fleet),
        plan: Value::String(plan),
        actor: run.actor.clone(),
    }
}

/// A run as it is kept, and its parts. A part that `known` has by name is taken from there.
pub(super) fn apart<'a>(
    run: &RunRecord,
    known: &'a BTreeMap<String, String>,
) -> Result<(RunRecord, [Part<'a>; 2]), StoreError> {
    let part = |value: &Value| -> Result<Part<'a>, StoreError> {
        if let Some((name, text)) = named(value).and_then(|name| known.get_key_value(name)) {
            return Ok((name.clone(), Cow::Borrowed(text)));
        }
        let text = serde_json::to_string(value)
            .map_err(|e| StoreError::Failed(Failure::new(Cause::Local, "state: write", e.to_string())))?;
        Ok((name(&text), Cow::Owned(text)))
    };
    let parts = [part(&run.fleet)?, part(&run.plan)?];
    Ok((without(run, parts[0].0.clone(), parts[1].0.clone()), parts))
}

/// The run with its parts, which `get` finds by name.
pub(super) fn whole(
    mut kept: RunRecord,
    mut get: impl FnMut(&str) -> Result<Value, StoreError>,
) -> Result<RunRecord, StoreError> {
    for part in [&mut kept.fleet, &mut kept.plan] {
        if let Some(name) = named(part).map(str::to_owned) {
            *part = get(&name)?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::goal::{Goal, Scope},
        store::{Holder, RunState},
    };

    #[test]
    fn a_run_comes_apart_and_together_and_a_part_that_is_known_is_not_made_again() {
        let run = RunRecord {
            id: "r".into(),
            started_ms: 1,
            ended_ms: None,
            state: RunState::Running,
            goal: Goal::Join { nodes: Scope(vec!["n1".into()]) },
            plan_hash: "ab".into(),
            fleet: json!({ "id": "f", "nodes": { "n1": {} } }),
            plan: json!({ "tracks": [] }),
            actor: Holder::this(),
        };
        let none = BTreeMap::new();
        let (kept, parts) = apart(&run, &none).unwrap();
        assert_eq!(named(&kept.fleet), Some(parts[0].0.as_str()));
        assert_ne!(parts[0].0, parts[1].0);
        let known: BTreeMap<String, String> = parts.into_iter().map(|(name, text)| (name, text.into_owned())).collect();
        assert!(known.iter().all(|(own, text)| name(text) == *own));
        let (again, parts) = apart(&kept, &known).unwrap();
        assert!(again == kept && parts.iter().all(|(_, text)| matches!(text, Cow::Borrowed(_))));
        let back = whole(kept, |name| Ok(serde_json::from_str(&known[name]).unwrap())).unwrap();
        assert_eq!(back, run);
        assert_eq!(whole(back.clone(), |_| unreachable!()).unwrap(), back);
    }
}
