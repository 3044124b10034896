//! What all simulated machines of a laboratory share: their segment, their clock, their clusters.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    address_socket::{Address, Interface},
    etcd::Cloud,
    segment_socket::Segment,
    sshd,
    timing::Timing,
};
use crate::{
    lab::{netns::MACHINES, process_exec::local, spec::MachineSpec},
    model::Failure,
};

pub struct Site {
    pub timing: Timing,
    pub segment: Segment,
    pub interface: Arc<Interface>,
    /// The supervisor's socket, which the machines' commands ask.
    pub control: PathBuf,
    pub sshd: PathBuf,
    pub cloud: Cloud,
    /// BMCs have their addresses as long as the laboratory stands.
    _bmcs: Vec<Address>,
}

impl Site {
    /// In the namespace of the machines, which this thread is in.
    pub fn open(timing: Timing, control: &Path, machines: &[MachineSpec]) -> Result<Arc<Site>, Failure> {
        let fault = |e: std::io::Error| local(format!("open the machines' interface {MACHINES}"), e);
        let interface = Arc::new(Interface::open(MACHINES).map_err(fault)?);
        let bmcs = machines.iter().map(|m| interface.up(m.bmc_address)).collect::<Result<_, _>>().map_err(fault)?;
        Ok(Arc::new(Site {
            timing,
            segment: Segment::open(MACHINES).map_err(fault)?,
            interface,
            control: control.to_owned(),
            sshd: sshd::program(std::env::var_os(sshd::VARIABLE)),
            cloud: Cloud::default(),
            _bmcs: bmcs,
        }))
    }
}
