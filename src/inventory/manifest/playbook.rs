//! `kind: Playbook`

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::text::Duration;

/// Goals, one after the other, with parameters.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Playbook
/// metadata: { name: replace-node }
/// spec:
///   parameters: { old: { type: node }, new: { type: node } }
///   steps:
///     - replace: { node: "{{ old }}", with: "{{ new }}" }
///     - gate: { cluster: core, healthy: 60s }
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlaybookSpec {
    /// What the caller sets (`--set old=n2`), by name; steps use them as `{{ old }}`.
    #[serde(default)]
    pub parameters: BTreeMap<String, ParameterSpec>,
    /// What is done, in this order; at least one.
    #[schemars(length(min = 1))]
    pub steps: Vec<StepSpec>,
}

/// A parameter of a playbook.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParameterSpec {
    /// What it must be.
    #[serde(rename = "type")]
    pub of: ParameterType,
    /// Its value where the caller sets none. Absent: the caller must.
    pub default: Option<String>,
    /// For people.
    pub description: Option<String>,
}

/// What a parameter must be.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    Node,
    Cluster,
    Selector,
    Text,
}

/// One step. Exactly one verb.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["apply"]}, {"required": ["install"]}, {"required": ["join"]}, {"required": ["replace"]},
    {"required": ["decommission"]}, {"required": ["cordon"]}, {"required": ["uncordon"]}, {"required": ["drain"]},
    {"required": ["power"]}, {"required": ["gate"]}, {"required": ["pause"]}
]))]
pub struct StepSpec {
    /// Bring nodes to their desired state.
    pub apply: Option<NodesStep>,
    /// Put the operating system on machines.
    pub install: Option<NodesStep>,
    /// Make installed nodes members of their clusters.
    pub join: Option<NodesStep>,
    /// Put one node in the place of another.
    pub replace: Option<ReplaceStep>,
    /// Take nodes out for good.
    pub decommission: Option<NodesStep>,
    /// Give nodes nothing new.
    pub cordon: Option<NodesStep>,
    /// Take a `cordon` back.
    pub uncordon: Option<NodesStep>,
    /// Move work away from nodes.
    pub drain: Option<NodesStep>,
    /// Change power.
    pub power: Option<PowerStep>,
    /// Go on only when a cluster has been healthy for a while.
    pub gate: Option<GateStep>,
    /// Wait for a person.
    pub pause: Option<PauseStep>,
}

/// Which nodes a step is for. Exactly one of `node`, `nodes` and `selector`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["node"]}, {"required": ["nodes"]}, {"required": ["selector"]}]))]
pub struct NodesStep {
    /// Name of a Node.
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    pub selector: Option<String>,
}

/// Put one node in the place of another.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceStep {
    /// Name of the Node that goes.
    pub node: String,
    /// Name of the Node that comes.
    pub with: String,
}

/// Change power.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerStep {
    /// Name of a Node.
    pub node: String,
    /// `on`, `off`, `cycle` or `reset`.
    pub action: PowerWord,
}

/// A change of power.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerWord {
    On,
    Off,
    Cycle,
    Reset,
}

/// Go on only when a cluster has been healthy for a while.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateStep {
    /// Name of a Cluster.
    pub cluster: String,
    /// For how long all members must have been healthy.
    pub healthy: Duration,
}

/// Wait for a person.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseStep {
    /// What the person is told.
    pub message: String,
}
