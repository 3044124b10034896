//! Drivers that put an operating system on a machine with somebody else's program: a closed set over
//! [`crate::model::fleet::Install`]. (`image`, our own installer, needs no program on this side.)
//!
//! | file | holds |
//! |---|---|
//! | [`nixos_anywhere`] | argv, environment and progress of `nixos-anywhere`, phase by phase (pure) |
//! | [`operator`] | the operator's own program: what it is told and what it may say (pure) |
//! | [`driver_exec`] | runs either |
//! | [`process`] | a child with a group of its own, killed whole at the deadline or when this process dies |
//! | [`supervisor_exec`] | the small process between that does the killing |
//! | [`ssh_wrapper`] | what `nixos-anywhere` finds as `ssh` and `scp`: the pins put back |

pub mod driver_exec;
pub mod nixos_anywhere;
pub mod operator;
pub mod process;
pub mod ssh_wrapper;
pub mod supervisor_exec;
