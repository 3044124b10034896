//! What an approval covers, and whether an act lies inside it. Pure; the time is an argument.

use super::{Danger, Plan, StepKind, Subject};
use crate::model::{Failure, approval::Envelope, failure::Cause};

/// How long an approval is good for, unless it is given for longer: a night shift.
pub const APPROVAL_MS: u64 = 12 * 3_600_000;

/// The envelope of a plan: its nodes, their disks, what is written to them, the kinds of destruction and how many.
pub fn envelope(plan: &Plan) -> Envelope {
    let mut envelope = Envelope::default();
    for track in &plan.tracks {
        let Subject::Node(node) = &track.subject else { continue };
        for step in track.steps.iter().filter(|s| s.danger == Danger::DataLoss) {
            envelope.nodes.insert(node.clone());
            envelope.kinds.insert(step.kind.word().to_owned());
            envelope.disks.insert(node.clone(), plan.bound.get(node).cloned().unwrap_or_default());
            if let StepKind::WriteDisk { system_sha256, .. } = &step.kind {
                envelope.artifacts.insert(node.clone(), system_sha256.clone());
                envelope.wipes += 1;
            }
        }
    }
    envelope
}

/// One destructive act.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub node: &'a str,
    /// The disk in the words of the plan's binding.
    pub disk: &'a str,
    pub artifact: &'a str,
    pub kind: &'a str,
}

/// Whether a person allowed this act, and still does at `unix_ms`. An approval is an envelope and its end in
/// milliseconds since 1970.
pub fn allows(approval: Option<&(Envelope, u64)>, wish: &Wish<'_>, unix_ms: u64) -> Result<(), Failure> {
    let refuse = |why: String| {
        Err(Failure::new(Cause::Guard, format!("{}: {}: approval", wish.node, wish.kind), why)
            .next("rackctl plan, then rackctl resume --approve HASH"))
    };
    let Some((envelope, expires_ms)) = approval else { return refuse("nobody approved it".into()) };
    if unix_ms >= *expires_ms {
        return refuse(format!("it was good until {}", crate::model::clock::utc(*expires_ms)));
    }
    if !envelope.nodes.contains(wish.node) {
        return refuse("the approval does not name this node".into());
    }
    if !envelope.kinds.contains(wish.kind) {
        return refuse(format!("the approval is not for `{}`", wish.kind));
    }
    let disk = envelope.disks.get(wish.node).map(String::as_str).unwrap_or_default();
    if disk != wish.disk {
        return refuse(format!("it names {disk}, this is {}", wish.disk));
    }
    let artifact = envelope.artifacts.get(wish.node).map(String::as_str).unwrap_or_default();
    if artifact != wish.artifact {
        return refuse(format!("it names the system {artifact}, this is {}", wish.artifact));
    }
    Ok(())
}

/// Whether every destructive step of the plan lies inside.
pub fn covers(envelope: &Envelope, plan: &Plan) -> bool {
    let wanted = self::envelope(plan);
    wanted.nodes.is_subset(&envelope.nodes)
        && wanted.kinds.is_subset(&envelope.kinds)
        && wanted.wipes <= envelope.wipes
        && wanted.disks.iter().all(|(node, disk)| envelope.disks.get(node) == Some(disk))
        && wanted.artifacts.iter().all(|(node, digest)| envelope.artifacts.get(node) == Some(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            nodes: ["n1".to_owned()].into(),
            disks: [("n1".to_owned(), "S1".to_owned())].into(),
            artifacts: [("n1".to_owned(), "aa".to_owned())].into(),
            kinds: ["write-disk".to_owned()].into(),
            wipes: 1,
        }
    }

    #[test]
    fn only_what_was_shown_may_be_destroyed_and_only_in_time() {
        let wish = Wish { node: "n1", disk: "S1", artifact: "aa", kind: "write-disk" };
        let given = (envelope(), 1_000);
        assert!(allows(Some(&given), &wish, 999).is_ok());
        let why = |approval, wish: &Wish<'_>, at| allows(approval, wish, at).map_err(|f| f.why).unwrap_err();
        assert!(why(None, &wish, 0).contains("nobody"));
        assert!(why(Some(&given), &wish, 1_000).contains("good until"));
        assert!(why(Some(&given), &Wish { node: "n2", ..wish }, 0).contains("does not name this node"));
        assert!(why(Some(&given), &Wish { disk: "S2", ..wish }, 0).contains("S2"));
        assert!(why(Some(&given), &Wish { artifact: "bb", ..wish }, 0).contains("bb"));
        assert!(why(Some(&given), &Wish { kind: "erase", ..wish }, 0).contains("erase"));
    }
}
