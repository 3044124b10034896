//! The laboratory: a fleet of emulated bare-metal machines, each with a BMC, in a network namespace of its own.
//!
//! The machines are QEMU processes without KVM; their BMCs ([`bmc`]) speak Redfish on 10.77.0.201 and up inside the
//! namespace `rackctl-NAME`. With `--simulated` they are tasks of the supervisor instead ([`simulated`]). The
//! supervisor process owns all of it and outlives the command that made it; whatever it dies of, the machines die with
//! it and the next `lab` verb cleans the rest.
//!
//! | question | file |
//! |---|---|
//! | what machines there are | [`spec`], [`layout`] |
//! | what stands behind a BMC: an emulated or a simulated machine | [`machine`], [`simulated`] |
//! | how an emulated one is started, and what it does on a reset | [`qemu`], [`qmp`], [`machine_exec`] |
//! | who owns it, what is ours to end | [`process`], [`owner_exec`], [`supervisor`] |
//! | what is said to the supervisor | [`control`] |
//! | what describes it to the rest of rackctl | [`manifest`], [`context`] |

pub mod bmc;
mod client;
pub mod console_client;
pub mod context;
pub mod control;
mod control_client;
mod create_exec;
pub mod escape;
pub mod layout;
pub mod machine;
pub mod machine_exec;
pub mod manifest;
pub mod netns;
mod owner_exec;
pub mod preflight;
mod preflight_exec;
pub mod process;
mod process_exec;
pub mod qemu;
pub mod qmp;
mod qmp_client;
mod seat;
pub mod simulated;
pub mod spec;
pub mod supervisor;
mod supervisor_serve;
pub mod yaml;

pub use client::{control, create, delete, list};
pub use console_client::{attach, console};
pub use control::{LabInfo, LabState, Request, Response};
pub use spec::Spec;
