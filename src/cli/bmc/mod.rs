//! `bmc`: a file a verb. What is looked at is looked at over a selection, side by side; what is changed is a short run.

use crate::{
    cli::{
        args::bmc::{Bmc, BmcVerb},
        globals::Globals,
    },
    output::{Exit, Stop},
};

mod bios;
mod cert;
mod change;
mod firmware;
mod follow;
mod info;
mod log;
mod login;
mod look;
mod media;
mod raid;
mod scan;
mod screenshot;
mod sensors;
mod trust;
mod users;

pub fn bmc(globals: &Globals, args: &Bmc) -> Result<Exit, Stop> {
    match &args.verb {
        BmcVerb::Info(args) => info::run(globals, args),
        BmcVerb::Log(args) => log::run(globals, args),
        BmcVerb::Sensors(args) => sensors::run(globals, args),
        BmcVerb::Bios(args) => bios::run(globals, args),
        BmcVerb::Firmware(args) => firmware::run(globals, args),
        BmcVerb::Raid(args) => raid::run(globals, args),
        BmcVerb::Users(args) => users::run(globals, args),
        BmcVerb::Cert(args) => cert::run(globals, args),
        BmcVerb::Media(args) => media::run(globals, args),
        BmcVerb::Screenshot(args) => screenshot::run(globals, args),
        BmcVerb::Nmi(args) => change::nmi(globals, args),
        BmcVerb::Reset(args) => change::reset(globals, args),
        BmcVerb::Trust(args) => trust::run(globals, args),
        BmcVerb::Login(args) => login::run(globals, args),
        BmcVerb::Scan(args) => scan::run(globals, args),
    }
}
