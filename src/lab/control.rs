//! What is said over a laboratory's control socket: one JSON document a line each way, one question a connection.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    bmc::Faults,
    machine_exec::Starts,
    simulated::{Account, agent::Said},
    spec::Identity,
};
use crate::model::{
    Failure,
    fleet::{BootMode, Lifecycle},
    power::{BootOverride, PowerState},
};

/// Longest question or answer.
pub const LINE_MAX: u64 = 8 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    Status,
    /// What was asked of the machine's BMC, oldest first.
    Requests {
        node: String,
    },
    /// How the machine's BMC misbehaves from now on; an empty list ends all faults that were set so.
    Faults {
        node: String,
        faults: Faults,
    },
    /// How it misbehaves now.
    ShowFaults {
        node: String,
    },
    /// The BMC gets another key and certificate, as after a factory reset or an impostor.
    SwapCertificate {
        node: String,
    },
    /// Another board or disk: SMBIOS and disk from the next start on, the BMC at once.
    SetIdentity {
        node: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bmc_serial: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<Uuid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk_serial: Option<String>,
    },
    /// A command that came to a simulated machine over SSH; its standard input.
    Node {
        node: String,
        words: Vec<String>,
        #[serde(default)]
        stdin: String,
    },
    /// Somebody else's file system on the disk of a simulated machine.
    ForeignDisk {
        node: String,
    },
    /// Ends the machines, the BMCs, the namespace and the supervisor; files stay.
    Shutdown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Response {
    Status {
        status: LabStatus,
    },
    Requests {
        requests: Vec<Value>,
    },
    CertificateSwapped {
        pin: String,
    },
    /// `nature`: what it was made with.
    Faults {
        faults: Faults,
        nature: Faults,
    },
    Node {
        said: Said,
    },
    Done,
    Failed {
        failure: Failure,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabStatus {
    pub name: String,
    pub pid: i32,
    pub netns: String,
    pub dir: PathBuf,
    pub machines: Vec<MachineStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MachineStatus {
    pub name: String,
    pub lifecycle: Lifecycle,
    pub firmware: BootMode,
    pub power: PowerState,
    /// Of QEMU, while it is on.
    pub pid: Option<i32>,
    /// `https://10.77.0.201`, to be reached inside the namespace.
    pub bmc: String,
    /// `sha256:HEX` of the key that it shows now.
    pub bmc_pin: String,
    pub boot_override: BootOverride,
    /// Requests that its BMC was asked since the supervisor started.
    pub requests: u64,
    /// Of these, how many that its log still has changed something.
    pub writes: u64,
    /// Log-ins that are open there now.
    pub sessions: u64,
    pub starts: Starts,
    pub identity: Identity,
    pub serial_log: PathBuf,
    /// What a simulated machine says and counts itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Account>,
}

/// The first and only line that a supervisor prints: it stands, or why it does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FirstWord {
    Ready { pid: i32 },
    Failed(Failure),
}

/// A row of `lab list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabInfo {
    pub name: String,
    pub state: LabState,
    pub nodes: u32,
    pub spares: u32,
    pub dir: PathBuf,
    pub inventory: PathBuf,
    pub context: String,
    pub namespace: String,
    /// When it was created, milliseconds since 1970.
    pub since_ms: u64,
    /// Of its supervisor, while that lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LabState {
    Running,
    /// Its supervisor is gone; what it left was cleaned away except its files.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_plain_json() {
        let text = r#"{"do":"setIdentity","node":"n1","diskSerial":"X"}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert!(serde_json::from_str::<Request>(r#"{"do":"format"}"#).is_err());
    }
}
