//! `kind: Credential`

use schemars::JsonSchema;
use serde::Deserialize;

/// A user name, and where its password comes from. The password itself never stands in the inventory.
///
/// ```yaml
/// apiVersion: rackctl.dev/v1alpha1
/// kind: Credential
/// metadata: { name: bmc-default }
/// spec:
///   username: admin
///   passwordFrom: { exec: { command: [pass, show, "bmc/{{ node.serial }}"] } }
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialSpec {
    /// The account on the BMC.
    pub username: String,
    /// Where the password is fetched when it is needed. Exactly one source.
    pub password_from: SecretFrom,
}

/// Where a secret comes from. Exactly one source. `{{ node.name }}`, `{{ node.serial }}` and `{{ node.labels.x }}`
/// stand for the machine it is fetched for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["keyring"]}, {"required": ["exec"]}, {"required": ["file"]},
    {"required": ["env"]}, {"required": ["age"]}, {"required": ["sops"]}
]))]
pub struct SecretFrom {
    /// `SERVICE/USER` in the operating system's keyring.
    pub keyring: Option<String>,
    /// A program that prints the secret.
    pub exec: Option<SecretExec>,
    /// A file that holds the secret and nothing else; refused when others can read it. Relative to this manifest.
    pub file: Option<String>,
    /// Name of an environment variable.
    pub env: Option<String>,
    /// A file encrypted with `age`. Relative to this manifest.
    pub age: Option<String>,
    /// A file encrypted with `sops`. Relative to this manifest.
    pub sops: Option<String>,
}

/// A program that prints a secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretExec {
    /// Program and arguments; no shell. Ten seconds at most.
    pub command: Vec<String>,
}
