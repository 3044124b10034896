//! `kind: Playbook`: the schema. What is read are the types of [`crate::model::playbook`], which have the same shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::text::DurationOrTemplate;
use crate::model::playbook::{
    ApplyStep, ApproveStep, BootStep, ExecStep, GateStep, InstallStep, NodesStep, NotifyStep, Parameter, PauseStep,
    PowerStep, RecoverStep, ReplaceStep, Then, UpgradeStep, WaitStep,
};

/// Goals and verbs, one after the other, with parameters. `rackctl run NAME --set key=value` does them.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Playbook
/// metadata: { name: rolling-restart }
/// spec:
///   parameters:
///     machine: { type: node, description: The machine that restarts }
///     soak: { type: duration, default: 60s }
///   steps:
///     - gate: { cluster: core, healthy: "{{ soak }}" }
///     - power: { node: "{{ machine }}", action: cycle }
///       onFailure: { retry: 2, delay: 30s }
///     - gate: { cluster: core, healthy: "{{ soak }}" }
/// ```
#[derive(Clone, Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlaybookSpec {
    /// What the caller sets (`--set old=n2`), by name; steps use them as `{{ old }}`.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What is done, in this order; at least one.
    #[schemars(length(min = 1, max = 200))]
    pub steps: Vec<StepSpec>,
}

/// A step of a playbook, and one of an `onFailure`, which has none of its own: nothing contains itself.
macro_rules! step {
    ($(#[$doc:meta])* $name:ident { $($(#[$own:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[schemars(extend("oneOf" = [
            {"required": ["apply"]}, {"required": ["install"]}, {"required": ["join"]}, {"required": ["power"]},
            {"required": ["boot"]}, {"required": ["gate"]}, {"required": ["approve"]}, {"required": ["wait"]},
            {"required": ["exec"]}, {"required": ["notify"]}, {"required": ["pause"]}, {"required": ["replace"]},
            {"required": ["decommission"]}, {"required": ["cordon"]}, {"required": ["uncordon"]},
            {"required": ["drain"]}, {"required": ["upgrade"]}, {"required": ["recover"]}
        ]))]
        pub struct $name {
            /// What the step is called in plans and reports.
            pub name: Option<String>,
            /// It is passed over unless this holds: `"{{ flag }}"`, `"!{{ flag }}"`, `"{{ a }} == b"`, `"{{ a }} != b"`.
            pub when: Option<String>,
            $($(#[$own])* pub $field: $type,)*
            /// Bring nodes to their desired state.
            pub apply: Option<ApplyStep>,
            /// Put the operating system on machines.
            pub install: Option<InstallStep>,
            /// Make installed nodes members of their clusters.
            pub join: Option<NodesStep>,
            /// Change power.
            pub power: Option<PowerStep>,
            /// Set what machines boot from next.
            pub boot: Option<BootStep>,
            /// Go on only when a cluster has been healthy for a while.
            pub gate: Option<GateStep>,
            /// Wait until another operator approves.
            pub approve: Option<ApproveStep>,
            /// Wait for a time, or until something holds.
            pub wait: Option<WaitStep>,
            /// Run a program on this host.
            pub exec: Option<ExecStep>,
            /// Tell somebody.
            pub notify: Option<NotifyStep>,
            /// Wait for a person.
            pub pause: Option<PauseStep>,
            /// Put one node in the place of another. Not run by this version.
            pub replace: Option<ReplaceStep>,
            /// Take nodes out for good. Not run by this version.
            pub decommission: Option<NodesStep>,
            /// Give nodes nothing new. Not run by this version.
            pub cordon: Option<NodesStep>,
            /// Take a `cordon` back. Not run by this version.
            pub uncordon: Option<NodesStep>,
            /// Move work away from nodes. Not run by this version.
            pub drain: Option<NodesStep>,
            /// Bring nodes or a cluster to a newer version. Not run by this version.
            pub upgrade: Option<UpgradeStep>,
            /// Bring a lost cluster back from a snapshot. Not run by this version.
            pub recover: Option<RecoverStep>,
        }
    };
}

step! {
    /// One step. Exactly one verb.
    StepSpec {
        /// What happens when the step fails: `stop` (the default), `continue`, steps that are done before the playbook
        /// stops, or tries with all of it.
        on_failure: Option<OnFailureSpec>,
    }
}

step! {
    /// A step of an `onFailure`. Exactly one verb.
    RecoveryStepSpec {}
}

/// What happens when a step fails.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum OnFailureSpec {
    Then(Then),
    Steps(Vec<RecoveryStepSpec>),
    Plan(FailurePlanSpec),
}

/// First tries, then steps, then where to go.
#[derive(Clone, Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePlanSpec {
    /// Further attempts; 0 unless said otherwise.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub retry: u32,
    /// Pause before each further attempt: ten seconds unless said otherwise.
    pub delay: Option<DurationOrTemplate>,
    /// What is done when no attempt is left.
    #[serde(default)]
    pub steps: Vec<RecoveryStepSpec>,
    /// `stop` (the default) or `continue`.
    #[serde(default)]
    pub then: Then,
}
