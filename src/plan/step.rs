//! The steps that a plan is made of: a closed set, each with its class, its danger and its limit of time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    baseline::BaselinePart,
    bmc::BmcChange,
    fleet::BootMode,
    power::{BootTarget, PowerAction},
};

/// `n1/write-disk`, `cluster/core/promote-n2`: unique in a plan.
pub type StepId = String;

/// What observation may settle and what it may not (engine.md, "Words").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// Changes nothing.
    Observe,
    /// May be done again: the same value is set.
    Set,
    /// Leaves a mark by which a later look knows that it was done.
    Once,
    /// Destroys data; done under a ticket.
    Destroy,
}

/// The label that people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Danger {
    #[serde(rename = "reversible")]
    Reversible,
    #[serde(rename = "reboot")]
    Reboot,
    #[serde(rename = "DATA LOSS")]
    DataLoss,
}

impl fmt::Display for Danger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Danger::Reversible => "reversible",
            Danger::Reboot => "reboot",
            Danger::DataLoss => "DATA LOSS",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StepKind {
    /// Serial and UUID that the BMC reports are the inventory's.
    CheckIdentity,
    /// Offer network boot to this machine alone, set the one-time override, read it back, power on or cycle.
    BootInstaller {
        target: BootTarget,
        mode: BootMode,
    },
    /// The installer claims with the token of this boot, and names MAC, UUID and serial.
    AwaitClaim,
    /// The disks that the machine reports, held against the inventory and looked at for foreign data.
    CheckDisks,
    /// Wipe ticket; written and read back by the installer.
    WriteDisk {
        system_sha256: String,
        generation: u64,
    },
    /// Network boot withdrawn and the boot override cleared, before the machine restarts.
    WithdrawNetboot,
    RebootToDisk,
    /// The installed system answers over SSH with its own key, from that disk, with that generation.
    AwaitInstalled {
        generation: u64,
    },
    /// An installed machine that is off is started; nothing is written.
    PowerOn,
    /// What the installer sees of the machine, for the inventory.
    ReadHardware,
    /// Out of the installer, and back to how the machine was found: `on` or off.
    LeaveInstaller {
        on: bool,
    },
    /// What `power` asks for. `force`: the operating system is not asked first. `wait`: seen to hold.
    SetPower {
        action: PowerAction,
        force: bool,
        wait: bool,
    },
    /// What `boot set` asks for, read back.
    SetBoot {
        target: BootTarget,
        persistent: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
    },
    /// What `bmc` changes, read back as far as it can be.
    ChangeBmc(BmcChange),
    /// A part of what brings the machine to its baseline: looked at first, and seen to hold afterwards.
    Baseline(BaselinePart),
    /// The cluster's first member, under the one-time bootstrap ticket.
    Bootstrap {
        member: String,
    },
    /// The entry of a member whose machine was installed anew: its data is gone, and under its old id it never
    /// comes back (etcd: `tocommit is out of range`).
    RemoveMember {
        member: String,
    },
    AddLearner {
        member: String,
    },
    StartMember {
        member: String,
    },
    AwaitSynced {
        member: String,
    },
    Promote {
        member: String,
    },
    /// Cluster id, member list, and a linearizable read through it of a key written through another.
    VerifyMember {
        member: String,
    },
}

impl StepKind {
    pub fn class(&self) -> Class {
        match self {
            StepKind::CheckIdentity
            | StepKind::AwaitClaim
            | StepKind::CheckDisks
            | StepKind::ReadHardware
            | StepKind::AwaitInstalled { .. }
            | StepKind::Baseline(BaselinePart::AwaitService { .. })
            | StepKind::AwaitSynced { .. }
            | StepKind::VerifyMember { .. } => Class::Observe,
            StepKind::WithdrawNetboot
            | StepKind::StartMember { .. }
            | StepKind::SetBoot { .. }
            | StepKind::LeaveInstaller { .. } => Class::Set,
            // The same state is asked for again; a restart is not the same as none.
            StepKind::SetPower {
                action: PowerAction::On | PowerAction::ForceOff | PowerAction::GracefulShutdown,
                ..
            } => Class::Set,
            StepKind::ChangeBmc(change) if change.repeatable() => Class::Set,
            StepKind::Baseline(BaselinePart::Bios { .. }) => Class::Set,
            StepKind::BootInstaller { .. }
            | StepKind::ChangeBmc(_)
            | StepKind::Baseline(_)
            | StepKind::RebootToDisk
            | StepKind::PowerOn
            | StepKind::SetPower { .. }
            | StepKind::Bootstrap { .. }
            | StepKind::RemoveMember { .. }
            | StepKind::AddLearner { .. }
            | StepKind::Promote { .. } => Class::Once,
            StepKind::WriteDisk { .. } => Class::Destroy,
        }
    }

    pub fn danger(&self) -> Danger {
        match self {
            StepKind::WriteDisk { .. } => Danger::DataLoss,
            StepKind::ChangeBmc(change) if change.destroys() => Danger::DataLoss,
            StepKind::ChangeBmc(change) if change.takes_away() => Danger::Reboot,
            StepKind::Baseline(part) if part.destroys() => Danger::DataLoss,
            StepKind::Baseline(part) if part.takes_away() => Danger::Reboot,
            StepKind::BootInstaller { .. } | StepKind::RebootToDisk => Danger::Reboot,
            StepKind::SetPower { action: PowerAction::On, .. } => Danger::Reversible,
            StepKind::SetPower { .. } => Danger::Reboot,
            _ => Danger::Reversible,
        }
    }

    /// The word in step ids, logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            StepKind::CheckIdentity => "check-identity",
            StepKind::BootInstaller { .. } => "boot-installer",
            StepKind::AwaitClaim => "await-claim",
            StepKind::CheckDisks => "check-disks",
            StepKind::WriteDisk { .. } => "write-disk",
            StepKind::WithdrawNetboot => "withdraw-netboot",
            StepKind::RebootToDisk => "reboot-to-disk",
            StepKind::AwaitInstalled { .. } => "await-installed",
            StepKind::PowerOn => "power-on",
            StepKind::ReadHardware => "read-hardware",
            StepKind::LeaveInstaller { .. } => "leave-installer",
            StepKind::SetPower { .. } => "set-power",
            StepKind::SetBoot { .. } => "set-boot",
            StepKind::ChangeBmc(change) => change.word(),
            StepKind::Baseline(part) => part.word(),
            StepKind::Bootstrap { .. } => "bootstrap",
            StepKind::RemoveMember { .. } => "remove-member",
            StepKind::AddLearner { .. } => "add-learner",
            StepKind::StartMember { .. } => "start-member",
            StepKind::AwaitSynced { .. } => "await-synced",
            StepKind::Promote { .. } => "promote",
            StepKind::VerifyMember { .. } => "verify-member",
        }
    }

    /// The installed system stays what it is: it is only started, or the machine below it changed.
    pub fn leaves_the_system(&self) -> bool {
        matches!(self, StepKind::PowerOn | StepKind::Baseline(_))
    }

    /// What it is about, where a track may have several of its kind.
    pub fn about(&self) -> Option<&str> {
        match self {
            StepKind::Baseline(part) => part.about(),
            _ => self.member(),
        }
    }

    /// Its id within its track.
    pub fn name(&self) -> String {
        self.about().map_or_else(|| self.word().to_owned(), |about| format!("{}-{about}", self.word()))
    }

    /// The member that a cluster's step is about.
    pub fn member(&self) -> Option<&str> {
        match self {
            StepKind::Bootstrap { member }
            | StepKind::RemoveMember { member }
            | StepKind::AddLearner { member }
            | StepKind::StartMember { member }
            | StepKind::AwaitSynced { member }
            | StepKind::Promote { member }
            | StepKind::VerifyMember { member } => Some(member),
            _ => None,
        }
    }

    /// Named limit of one attempt, in seconds, from its begin to its verified end.
    pub fn deadline_s(&self) -> u64 {
        match self {
            StepKind::CheckIdentity => 60,
            StepKind::BootInstaller { .. }
            | StepKind::WithdrawNetboot
            | StepKind::PowerOn
            | StepKind::SetBoot { .. } => 180,
            // An operating system may take its time to shut down.
            StepKind::SetPower { .. } => 600,
            StepKind::ChangeBmc(change) => change.deadline_s(),
            StepKind::Baseline(part) => part.deadline_s(),
            StepKind::AwaitClaim => 420,
            StepKind::CheckDisks | StepKind::ReadHardware => 300,
            // Off, and on again.
            StepKind::LeaveInstaller { .. } => 360,
            StepKind::WriteDisk { .. } => 1_800,
            StepKind::RebootToDisk => 120,
            StepKind::AwaitInstalled { .. } => 420,
            StepKind::Bootstrap { .. }
            | StepKind::RemoveMember { .. }
            | StepKind::AddLearner { .. }
            | StepKind::StartMember { .. } => 120,
            StepKind::AwaitSynced { .. } => 300,
            StepKind::Promote { .. } | StepKind::VerifyMember { .. } => 60,
        }
    }

    /// How often the whole way from `boot-installer` on is tried when a machine does not come up.
    pub const BOOT_ATTEMPTS: u32 = 3;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub id: StepId,
    pub kind: StepKind,
    pub danger: Danger,
    pub why: String,
    /// Steps of other tracks that must hold before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaits: Vec<StepId>,
}
