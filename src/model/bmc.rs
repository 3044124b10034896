//! What is asked of a BMC by name, beyond power and boot: one change to one machine each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Secrets are not part of it: a new password is handed to the step beside the goal, and never written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BmcChange {
    /// `log`: this one alone.
    ClearLog {
        log: Option<String>,
    },
    /// In force from the machine's next start on.
    SetBios {
        attributes: BTreeMap<String, String>,
    },
    ClearPendingBios,
    /// In force from the machine's next start on.
    SetSecureBoot {
        on: bool,
    },
    /// `slot`: none is the first free one for discs.
    InsertMedia {
        image: String,
        slot: Option<String>,
    },
    /// `slot`: none is all that hold something.
    EjectMedia {
        slot: Option<String>,
    },
    /// The BMC itself, not the machine.
    RestartBmc,
    /// A non-maskable interrupt to the machine.
    Nmi,
    SetPassword {
        user: String,
    },
    /// `role` as Redfish calls it. Its password is handed over as that of [`BmcChange::SetPassword`].
    CreateUser {
        user: String,
        role: String,
    },
    DeleteUser {
        user: String,
    },
    EnableUser {
        user: String,
        on: bool,
    },
    UnlockUser {
        user: String,
    },
    /// `pin`: of the new certificate's key, by which it is known when it is served. The certificate itself may stand beside
    /// its private key, and is handed to the step as a secret.
    ReplaceCertificate {
        pin: String,
    },
    /// An image that the BMC fetches, or the absolute path of a file of this host, which is sent. `target`: id of the
    /// item that it is for.
    UpdateFirmware {
        image: String,
        target: Option<String>,
    },
    /// What is on the drives is lost.
    CreateVolume {
        raid: String,
        drives: Vec<String>,
        name: Option<String>,
    },
    /// What is on the volume is lost.
    DeleteVolume {
        volume: String,
    },
}

impl BmcChange {
    /// In step ids, logs and messages.
    pub const fn word(&self) -> &'static str {
        match self {
            BmcChange::ClearLog { .. } => "clear-log",
            BmcChange::SetBios { .. } => "set-bios",
            BmcChange::ClearPendingBios => "clear-pending-bios",
            BmcChange::SetSecureBoot { .. } => "set-secure-boot",
            BmcChange::InsertMedia { .. } => "insert-media",
            BmcChange::EjectMedia { .. } => "eject-media",
            BmcChange::RestartBmc => "restart-bmc",
            BmcChange::Nmi => "nmi",
            BmcChange::SetPassword { .. } => "set-password",
            BmcChange::CreateUser { .. } => "create-user",
            BmcChange::DeleteUser { .. } => "delete-user",
            BmcChange::EnableUser { on: true, .. } => "enable-user",
            BmcChange::EnableUser { on: false, .. } => "disable-user",
            BmcChange::UnlockUser { .. } => "unlock-user",
            BmcChange::ReplaceCertificate { .. } => "replace-certificate",
            BmcChange::UpdateFirmware { .. } => "update-firmware",
            BmcChange::CreateVolume { .. } => "create-volume",
            BmcChange::DeleteVolume { .. } => "delete-volume",
        }
    }

    /// What is wished, behind the word: `: BootMode=Uefi`; empty where the word says it all.
    pub fn detail(&self) -> String {
        let of = |name: &Option<String>| name.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
        match self {
            BmcChange::ClearLog { log } => of(log),
            BmcChange::EjectMedia { slot } => of(slot),
            BmcChange::SetBios { attributes } => {
                let all: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!(": {}", all.join(", "))
            }
            BmcChange::InsertMedia { image, slot } => match slot {
                Some(slot) => format!(": {image} into slot {slot}"),
                None => format!(": {image}"),
            },
            BmcChange::SetSecureBoot { on } => format!(": {}", if *on { "on" } else { "off" }),
            BmcChange::SetPassword { user } => format!(": of user {user}"),
            BmcChange::CreateUser { user, role } => format!(": {user} as {role}"),
            BmcChange::DeleteUser { user } | BmcChange::EnableUser { user, .. } | BmcChange::UnlockUser { user } => {
                format!(": {user}")
            }
            BmcChange::ReplaceCertificate { pin } => format!(": by the one with key {pin}"),
            BmcChange::UpdateFirmware { image, target } => match target {
                Some(target) => format!(": {target} by {image}"),
                None => format!(": {image}"),
            },
            BmcChange::CreateVolume { raid, drives, .. } => format!(": {raid} of {}", drives.join(", ")),
            BmcChange::DeleteVolume { volume } => format!(": {volume}"),
            BmcChange::ClearPendingBios | BmcChange::RestartBmc | BmcChange::Nmi => String::new(),
        }
    }

    /// The verb that shows what it changes.
    pub const fn verb(&self) -> &'static str {
        match self {
            BmcChange::ClearLog { .. } => "log",
            BmcChange::SetBios { .. } | BmcChange::ClearPendingBios | BmcChange::SetSecureBoot { .. } => "bios",
            BmcChange::InsertMedia { .. } | BmcChange::EjectMedia { .. } => "media",
            BmcChange::RestartBmc | BmcChange::Nmi => "info",
            BmcChange::SetPassword { .. }
            | BmcChange::CreateUser { .. }
            | BmcChange::DeleteUser { .. }
            | BmcChange::EnableUser { .. }
            | BmcChange::UnlockUser { .. } => "users",
            BmcChange::ReplaceCertificate { .. } => "cert",
            BmcChange::UpdateFirmware { .. } => "firmware",
            BmcChange::CreateVolume { .. } | BmcChange::DeleteVolume { .. } => "raid",
        }
    }

    /// The machine stops by it, or may: its clusters are asked first.
    pub const fn takes_away(&self) -> bool {
        matches!(self, BmcChange::Nmi | BmcChange::UpdateFirmware { .. }) || self.destroys()
    }

    /// Data is lost.
    pub const fn destroys(&self) -> bool {
        matches!(self, BmcChange::CreateVolume { .. } | BmcChange::DeleteVolume { .. })
    }

    /// Asked for again, it brings the same about; the others may have happened already when a process died.
    pub const fn repeatable(&self) -> bool {
        !matches!(
            self,
            BmcChange::Nmi
                | BmcChange::UpdateFirmware { .. }
                | BmcChange::CreateVolume { .. }
                | BmcChange::CreateUser { .. }
                | BmcChange::DeleteUser { .. }
        )
    }

    /// Named limit of one attempt, in seconds.
    pub const fn deadline_s(&self) -> u64 {
        match self {
            BmcChange::UpdateFirmware { .. } => 3_600,
            BmcChange::RestartBmc | BmcChange::CreateVolume { .. } | BmcChange::DeleteVolume { .. } => 900,
            _ => 300,
        }
    }
}
