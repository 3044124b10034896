//! A playbook as it is written: typed steps whose texts may hold `{{ parameter }}`. [`super::play`] is what becomes of
//! it for one run. The shapes are those of the manifests: what is read here is what the operator wrote.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::goal::Ceiling;

/// Goals and verbs, one after the other, with parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Playbook {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    pub steps: Vec<PlayStep>,
}

/// A parameter of a playbook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameter {
    /// What it must be.
    #[serde(rename = "type")]
    pub of: ParameterType,
    /// Its value where the caller sets none. Absent: the caller must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Scalar>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a parameter must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// Name of a Node.
    Node,
    /// Name of a Cluster.
    Cluster,
    /// `role=control-plane`
    Selector,
    /// Any text without control characters.
    Text,
    /// `3`, `-1`, `2.5`
    Number,
    /// `30s`, `1h30m`
    Duration,
    /// `true` or `false`
    Bool,
}

impl ParameterType {
    pub const fn word(self) -> &'static str {
        match self {
            ParameterType::Node => "node",
            ParameterType::Cluster => "cluster",
            ParameterType::Selector => "selector",
            ParameterType::Text => "text",
            ParameterType::Number => "number",
            ParameterType::Duration => "duration",
            ParameterType::Bool => "bool",
        }
    }
}

/// A plain value: text, a number, true or false.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => value.fmt(f),
            Scalar::Integer(value) => value.fmt(f),
            Scalar::Number(value) => value.fmt(f),
            Scalar::Text(value) => value.fmt(f),
        }
    }
}

/// True, false, or a parameter of type bool: `"{{ again }}"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Flag {
    Set(bool),
    Template(#[schemars(extend("format" = "rackctl-template"))] String),
}

impl Default for Flag {
    fn default() -> Self {
        Flag::Set(false)
    }
}

impl Flag {
    /// Left out of what is written.
    pub fn is_false(&self) -> bool {
        *self == Flag::Set(false)
    }
}

/// One step: exactly one verb, and what belongs to every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayStep {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `{{ flag }}`, `!{{ flag }}`, `{{ a }} == b`, `{{ a }} != b`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    #[serde(flatten)]
    pub verb: PlayVerb,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlayVerb {
    Apply(ApplyStep),
    Install(InstallStep),
    Join(NodesStep),
    Power(PowerStep),
    Boot(BootStep),
    Gate(GateStep),
    Approve(ApproveStep),
    Wait(WaitStep),
    Exec(ExecStep),
    Notify(NotifyStep),
    Pause(PauseStep),
    Replace(ReplaceStep),
    Decommission(NodesStep),
    Cordon(NodesStep),
    Uncordon(NodesStep),
    Drain(NodesStep),
    Upgrade(UpgradeStep),
    Recover(RecoverStep),
}

impl PlayVerb {
    pub const fn word(&self) -> &'static str {
        match self {
            PlayVerb::Apply(_) => "apply",
            PlayVerb::Install(_) => "install",
            PlayVerb::Join(_) => "join",
            PlayVerb::Power(_) => "power",
            PlayVerb::Boot(_) => "boot",
            PlayVerb::Gate(_) => "gate",
            PlayVerb::Approve(_) => "approve",
            PlayVerb::Wait(_) => "wait",
            PlayVerb::Exec(_) => "exec",
            PlayVerb::Notify(_) => "notify",
            PlayVerb::Pause(_) => "pause",
            PlayVerb::Replace(_) => "replace",
            PlayVerb::Decommission(_) => "decommission",
            PlayVerb::Cordon(_) => "cordon",
            PlayVerb::Uncordon(_) => "uncordon",
            PlayVerb::Drain(_) => "drain",
            PlayVerb::Upgrade(_) => "upgrade",
            PlayVerb::Recover(_) => "recover",
        }
    }
}

/// What happens when a step fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OnFailure {
    Then(Then),
    /// Done in this order; then the playbook stops.
    Steps(Vec<PlayStep>),
    Plan(FailurePlan),
}

/// Where a playbook goes after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// No further step is begun.
    #[default]
    Stop,
    /// The next step is begun; the run ends as one of which a part failed.
    Continue,
}

/// Tries first, then steps, then where to go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailurePlan {
    #[serde(default)]
    pub retry: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<PlayStep>,
    #[serde(default)]
    pub then: Then,
}

/// Which nodes a step is for. Exactly one of `node`, `nodes` and `selector`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["node"]}, {"required": ["nodes"]}, {"required": ["selector"]}]))]
pub struct NodesStep {
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-selector-or-template"))]
    pub selector: Option<String>,
}

/// Bring nodes to their desired state; all active ones unless some are named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyStep {
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-selector-or-template"))]
    pub selector: Option<String>,
    /// How destructive the step may be: reversible unless said otherwise.
    #[serde(default)]
    pub allow: Ceiling,
}

/// Put the operating system on machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["node"]}, {"required": ["nodes"]}, {"required": ["selector"]}]))]
pub struct InstallStep {
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-selector-or-template"))]
    pub selector: Option<String>,
    /// Also machines that have a system.
    #[serde(default, skip_serializing_if = "Flag::is_false")]
    pub reinstall: Flag,
}

/// Change power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["node"]}, {"required": ["nodes"]}, {"required": ["selector"]}]))]
pub struct PowerStep {
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-selector-or-template"))]
    pub selector: Option<String>,
    /// `on`, `off`, `cycle` or `reset`.
    pub action: PowerWord,
    /// Without asking the operating system.
    #[serde(default, skip_serializing_if = "Flag::is_false")]
    pub force: Flag,
    /// Also where a cluster stops serving by it.
    #[serde(default, skip_serializing_if = "Flag::is_false")]
    pub lose_quorum: Flag,
}

/// A change of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PowerWord {
    On,
    Off,
    Cycle,
    Reset,
}

impl PowerWord {
    pub const fn word(self) -> &'static str {
        match self {
            PowerWord::On => "on",
            PowerWord::Off => "off",
            PowerWord::Cycle => "cycle",
            PowerWord::Reset => "reset",
        }
    }
}

/// Set what machines boot from next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["node"]}, {"required": ["nodes"]}, {"required": ["selector"]}]))]
pub struct BootStep {
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Names, globs and ranges: `["n[1-3]"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// `role=control-plane`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-selector-or-template"))]
    pub selector: Option<String>,
    /// `pxe`, `http`, `disk`, `cd`, `setup`, or `none`: as the firmware's own order says.
    pub target: BootWord,
    /// Until it is set otherwise; else for the next boot alone.
    #[serde(default, skip_serializing_if = "Flag::is_false")]
    pub persistent: Flag,
}

/// What a machine boots from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootWord {
    None,
    Pxe,
    Http,
    Disk,
    Cd,
    Setup,
}

impl BootWord {
    pub const fn word(self) -> &'static str {
        match self {
            BootWord::None => "none",
            BootWord::Pxe => "pxe",
            BootWord::Http => "http",
            BootWord::Disk => "disk",
            BootWord::Cd => "cd",
            BootWord::Setup => "setup",
        }
    }
}

/// Go on only when a cluster has been healthy for a while: all its members, and no alarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateStep {
    /// Name of a Cluster.
    pub cluster: String,
    /// For how long all members must have been healthy.
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub healthy: String,
    /// How long that is waited for at most: ten minutes, and the time above, unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub deadline: Option<String>,
}

/// Wait until another operator approves (`rackctl approve HASH`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveStep {
    /// What is to be approved, in words.
    pub message: String,
    /// How long the approval is waited for: a day unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub deadline: Option<String>,
}

/// Wait for a time, or until something holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["duration"]}, {"required": ["for"]}]))]
pub struct WaitStep {
    /// So long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub duration: Option<String>,
    /// Until this holds.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub condition: Option<WaitFor>,
    /// With `for`: how long at most; ten minutes unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub deadline: Option<String>,
}

/// What is waited for: a cluster's health, or a machine's power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["cluster"]}, {"required": ["node"]}]))]
pub struct WaitFor {
    /// Name of a Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// With `cluster`: for how long all its members must have been healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub healthy: Option<String>,
    /// Name of a Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// With `node`: `on` or `off`, as its BMC says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<OnOff>,
}

/// A state of power that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnOff {
    On,
    Off,
}

/// Run a program on this host: words, no shell. It gets one JSON object on standard input that says which run, playbook
/// and step it belongs to, with the parameters. Exit code 0 is success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecStep {
    /// The program and its arguments. A program that begins with `./` or `../` is relative to the manifest.
    #[schemars(length(min = 1, max = 256))]
    pub command: Vec<String>,
    /// When it is killed with all that it started: after ten minutes unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-duration-or-template"))]
    pub deadline: Option<String>,
    /// It may be run again when rackctl died while it ran. Otherwise a person says how it ended: nobody else can.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeatable: bool,
}

/// Tell somebody: a program, or an address that gets the message as JSON. Exactly one of `command` and `url`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["command"]}, {"required": ["url"]}]))]
pub struct NotifyStep {
    /// What is said.
    pub message: String,
    /// The program and its arguments; it gets the same JSON on standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub command: Option<Vec<String>>,
    /// `http://…`, or `https://…` with a pin: no certificate authority is trusted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-webhook-url"))]
    pub url: Option<String>,
    /// Public key of the server at an https address, as `sha256:` and 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "rackctl-pin"))]
    pub pin: Option<String>,
}

/// Wait for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseStep {
    /// What the person is told.
    pub message: String,
}

/// Put one node in the place of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceStep {
    /// Name of the Node that goes.
    pub node: String,
    /// Name of the Node that comes.
    pub with: String,
}

/// Bring nodes or a cluster to a newer version. Exactly one of `os`, `firmware` and `cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["os"]}, {"required": ["firmware"]}, {"required": ["cluster"]}]))]
pub struct UpgradeStep {
    /// The operating system of these nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<NodesStep>,
    /// Firmware of these nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<NodesStep>,
    /// Name of a Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Bring a lost cluster back from a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverStep {
    /// Name of a Cluster.
    pub cluster: String,
    /// The snapshot's file.
    pub from: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The nodes that a step names, whatever its verb.
pub struct Choice<'a> {
    pub node: Option<&'a str>,
    pub nodes: Option<&'a [String]>,
    pub selector: Option<&'a str>,
}

macro_rules! choice {
    ($($step:ident),*) => {$(
        impl $step {
            pub fn choice(&self) -> Choice<'_> {
                Choice { node: self.node.as_deref(), nodes: self.nodes.as_deref(), selector: self.selector.as_deref() }
            }
        }
    )*};
}
choice!(NodesStep, ApplyStep, InstallStep, PowerStep, BootStep);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_written_as_it_is_read() {
        let text = r#"{"steps":[
            {"name":"machines","when":"{{ x }}","onFailure":{"retry":2,"delay":"5s","then":"continue"},"install":{"selector":"role=m","reinstall":true}},
            {"onFailure":[{"notify":{"message":"m","command":["/bin/true"]}}],"exec":{"command":["/bin/x"]}},
            {"onFailure":"continue","wait":{"for":{"node":"n1","power":"off"}}},
            {"upgrade":{"cluster":"core"}}],"parameters":{"x":{"type":"bool","default":true}}}"#;
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let playbook: Playbook = serde_json::from_value(value.clone()).unwrap();
        assert!(
            matches!(&playbook.steps[0].on_failure, Some(OnFailure::Plan(p)) if p.retry == 2 && p.then == Then::Continue)
        );
        assert!(matches!(&playbook.steps[1].on_failure, Some(OnFailure::Steps(s)) if s[0].verb.word() == "notify"));
        assert_eq!(playbook.parameters["x"].default, Some(Scalar::Bool(true)));
        let again: Playbook = serde_json::from_value(serde_json::to_value(&playbook).unwrap()).unwrap();
        assert_eq!(again, playbook);
        let written = serde_json::to_value(&playbook).unwrap();
        assert_eq!(written["steps"][0]["install"], value["steps"][0]["install"]);
        assert_eq!(written["steps"][3], value["steps"][3]);
    }

    #[test]
    fn two_verbs_or_none_are_no_step() {
        for text in [r#"{"name":"x"}"#, r#"{"pause":{}}"#, r#"{"pause":{"message":"m","extra":1}}"#] {
            assert!(serde_json::from_str::<PlayStep>(text).is_err(), "{text}");
        }
    }
}
