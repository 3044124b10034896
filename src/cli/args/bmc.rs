//! `bmc`: what BMCs hold, and what is changed there.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Targets, values};

/// The BMCs themselves
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc scan 10.0.0.0/24
    rackctl bmc login n1
    rackctl bmc info n1
    rackctl bmc log n[1-40] --tail 5
    rackctl bmc sensors --all -o json
    rackctl bmc bios n1 --set BootMode=Uefi
    rackctl bmc trust n1 --fingerprint sha256:3f2a…")]
pub struct Bmc {
    #[command(subcommand)]
    pub verb: BmcVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum BmcVerb {
    Info(Info),
    Log(Log),
    Sensors(Sensors),
    Bios(Bios),
    Firmware(Firmware),
    Raid(Raid),
    Users(Users),
    Cert(Cert),
    Media(Media),
    Screenshot(Screenshot),
    Nmi(Nmi),
    Reset(Reset),
    Trust(Trust),
    Login(LogIn),
    Scan(Scan),
}

/// What a BMC says of its machine
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc info n1
    rackctl bmc info --all -o wide
    rackctl bmc info n1 -o yaml          with its drives, and what its ports hear of their switches")]
pub struct Info {
    #[command(flatten)]
    pub targets: Targets,
}

/// The logs of machine and BMC, newest last
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc log n1
    rackctl bmc log n[1-40] --log Sel --tail 5
    rackctl bmc log n1 n2 --follow
    rackctl bmc log n1 --log Sel --clear")]
pub struct Log {
    #[command(flatten)]
    pub targets: Targets,
    /// This log alone, by its id, as in Sel or IML
    #[arg(long, value_name = "ID")]
    pub log: Option<String>,
    /// The last so many entries of each machine
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Go on with what comes, until ^C: asked for every few seconds
    #[arg(long, conflicts_with = "clear")]
    pub follow: bool,
    /// Clear what can be cleared, and see that it is empty
    #[arg(long, conflicts_with = "tail")]
    pub clear: bool,
    /// Do not ask
    #[arg(short, long, requires = "clear")]
    pub yes: bool,
    #[command(flatten)]
    pub dry: Dry,
}

/// Temperatures, fans, voltages, and what the machine draws
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc sensors n1
    rackctl bmc sensors n1 -o wide       with the limits
    rackctl bmc sensors --all -o jsonpath='{.items[*].status.powerWatts}'")]
pub struct Sensors {
    #[command(flatten)]
    pub targets: Targets,
}

/// Firmware settings, and those that wait for the next start
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc bios n1
    rackctl bmc bios --all --attribute BootMode
    rackctl bmc bios n[1-4] --set ProcVirtualization=Enabled --set NumaNodes=2
    rackctl bmc bios n1 --clear-pending
    rackctl bmc bios n1 --secure-boot off
    rackctl power cycle n1               brings what is pending into force")]
pub struct Bios {
    #[command(flatten)]
    pub targets: Targets,
    /// These attributes alone; may be said several times
    #[arg(long, value_name = "NAME")]
    pub attribute: Vec<String>,
    /// Those alone that are pending
    #[arg(long)]
    pub pending: bool,
    /// Set an attribute, from the next start on; may be said several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair, conflicts_with_all = ["attribute", "pending"])]
    pub set: Vec<(String, String)>,
    /// Throw away what is pending
    #[arg(long, conflicts_with_all = ["set", "attribute", "pending"])]
    pub clear_pending: bool,
    /// Switch Secure Boot, from the next start on
    #[arg(long, value_name = "on|off", conflicts_with_all = ["set", "attribute", "pending", "clear_pending"])]
    pub secure_boot: Option<Switch>,
    #[command(flatten)]
    pub dry: Dry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// Versions of all firmware, and updates
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc firmware n1
    rackctl bmc firmware n1 --update https://images.example/bmc-1.2.bin
    rackctl bmc firmware n1 --update http://10.0.0.1/bios.bin --item BIOS
    rackctl bmc firmware n1 --update ./bios.bin --item BIOS")]
pub struct Firmware {
    #[command(flatten)]
    pub targets: Targets,
    /// Have the BMC fetch this image, or send it this file, and install it; the machine may restart by it
    #[arg(long, value_name = "URL|PATH", value_parser = values::image)]
    pub update: Option<String>,
    /// The item of the inventory that the image is for
    #[arg(long, value_name = "ID", requires = "update")]
    pub item: Option<String>,
    #[command(flatten)]
    pub taking: Taking,
    #[command(flatten)]
    pub dry: Dry,
}

/// Of what changes something.
#[derive(Clone, Copy, Debug, Args)]
pub struct Dry {
    /// Say what would be done, do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Of what takes machines away.
#[derive(Clone, Copy, Debug, Args)]
pub struct Taking {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Also where a cluster stops serving by it
    #[arg(long)]
    pub lose_quorum: bool,
}

/// Volumes and drives of storage controllers
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc raid n1
    rackctl bmc raid n1 -o wide          with the drives' serials
    rackctl bmc raid n1 --create raid1 --drives S4X1,S4X2 --volume-name os
    rackctl bmc raid n1 --delete Volume0 --yes")]
pub struct Raid {
    #[command(flatten)]
    pub targets: Targets,
    /// Make a volume of these drives. DATA LOSS: what is on them is gone
    #[arg(long, value_name = "LEVEL", requires = "drives", conflicts_with = "delete")]
    pub create: Option<Level>,
    /// Ids or serials of drives, with commas
    #[arg(long, value_name = "DRIVE,…", value_delimiter = ',', requires = "create")]
    pub drives: Vec<String>,
    /// Name of the new volume
    #[arg(long, value_name = "NAME", requires = "create")]
    pub volume_name: Option<String>,
    /// Delete a volume, by id or name. DATA LOSS: what is on it is gone
    #[arg(long, value_name = "VOLUME")]
    pub delete: Option<String>,
    #[command(flatten)]
    pub taking: Taking,
    /// Also on machines that rackctl installed
    #[arg(long)]
    pub installed: bool,
    #[command(flatten)]
    pub dry: Dry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    Raid0,
    Raid1,
    Raid5,
    Raid6,
    Raid10,
}

impl Level {
    /// As Redfish writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Level::Raid0 => "RAID0",
            Level::Raid1 => "RAID1",
            Level::Raid5 => "RAID5",
            Level::Raid6 => "RAID6",
            Level::Raid10 => "RAID10",
        }
    }
}

/// Accounts: shown, made, deleted, switched, unlocked, and given new passwords
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc users n1
    rackctl bmc users n1 --set-password admin                      asks for it
    rackctl bmc users n[1-4] --set-password admin < new-password   or takes the first line
    rackctl bmc users n1 --set-password admin --password-file new-password
    rackctl bmc users n[1-4] --create ops --role Operator --password-file new-password
    rackctl bmc users n1 --unlock ops
    rackctl bmc users --all --disable ops
    rackctl bmc users n1 --delete ops")]
pub struct Users {
    #[command(flatten)]
    pub targets: Targets,
    /// Give this user another password, and log in once with it
    #[arg(long, value_name = "USER", group = "change")]
    pub set_password: Option<String>,
    /// Read the new password from this file, which nobody else may read
    #[arg(long, value_name = "PATH", conflicts_with_all = ["delete", "enable", "disable", "unlock"])]
    pub password_file: Option<PathBuf>,
    /// Make this user, and log in once as it
    #[arg(long, value_name = "USER", requires = "role", group = "change")]
    pub create: Option<String>,
    /// What the new user may do
    #[arg(long, requires = "create")]
    pub role: Option<Role>,
    /// Delete this user; never the one that the inventory logs in as
    #[arg(long, value_name = "USER", group = "change")]
    pub delete: Option<String>,
    /// Let this user log in again
    #[arg(long, value_name = "USER", group = "change")]
    pub enable: Option<String>,
    /// Let this user log in no more; never the one that the inventory logs in as
    #[arg(long, value_name = "USER", group = "change")]
    pub disable: Option<String>,
    /// Take off the lock that wrong passwords have put on
    #[arg(long, value_name = "USER", group = "change")]
    pub unlock: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub dry: Dry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Role {
    Administrator,
    Operator,
    ReadOnly,
}

impl Role {
    /// As Redfish writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Administrator => "Administrator",
            Role::Operator => "Operator",
            Role::ReadOnly => "ReadOnly",
        }
    }
}

/// Certificates that BMCs serve, and new ones
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc cert --all
    rackctl bmc cert n1 -o yaml
    rackctl bmc cert n1 --replace n1.pem      certificate and private key in one file")]
pub struct Cert {
    #[command(flatten)]
    pub targets: Targets,
    /// Give the HTTPS server of one BMC this certificate: PEM, with its private key unless the BMC has it
    #[arg(long, value_name = "PATH")]
    pub replace: Option<PathBuf>,
    /// Do not ask
    #[arg(short, long, requires = "replace")]
    pub yes: bool,
    #[command(flatten)]
    pub dry: Dry,
}

/// Virtual media: slots, and the images in them
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc media n1
    rackctl bmc media n1 --insert http://10.0.0.1/rescue.iso
    rackctl boot set cd n1               to start from it
    rackctl bmc media n1 --eject")]
pub struct Media {
    #[command(flatten)]
    pub targets: Targets,
    /// Put this image into a free slot for discs
    #[arg(long, value_name = "URL", value_parser = values::image_url, conflicts_with = "eject")]
    pub insert: Option<String>,
    /// Empty all slots, or the one that --slot names
    #[arg(long)]
    pub eject: bool,
    /// This slot, by its id
    #[arg(long, value_name = "ID")]
    pub slot: Option<String>,
    #[command(flatten)]
    pub dry: Dry,
}

/// The machine's screen as a picture
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc screenshot n1                     writes n1.png
    rackctl bmc screenshot n1 --out screen.png")]
pub struct Screenshot {
    #[command(flatten)]
    pub targets: Targets,
    /// Where to write it; of one machine
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// A non-maskable interrupt: most systems write a dump and stop
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc nmi n1")]
pub struct Nmi {
    #[command(flatten)]
    pub targets: Targets,
    #[command(flatten)]
    pub taking: Taking,
    #[command(flatten)]
    pub dry: Dry,
}

/// Restart the BMC, not the machine, and wait until it answers again
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc reset n1
    rackctl bmc reset -l rack=r1 --concurrency 4 --yes")]
pub struct Reset {
    #[command(flatten)]
    pub targets: Targets,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub dry: Dry,
}

/// Show the public key that a BMC presents, and pin it in the node's manifest once you have agreed
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc trust n1                             shows it, and asks
    rackctl bmc trust n1 --fingerprint sha256:3f2a…  pins it if that is the one
    rackctl bmc trust --all --dry-run                shows all, writes nothing

The manifest keeps its comments and its form: one value is written, and read back. Without a terminal nothing is
pinned unless the fingerprint is given.")]
pub struct Trust {
    #[command(flatten)]
    pub targets: Targets,
    /// The fingerprint you read elsewhere: anything else is refused
    #[arg(long, value_name = "SHA256", value_parser = values::fingerprint)]
    pub fingerprint: Option<String>,
    /// Show it, write nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl Users {
    pub fn changes(&self) -> bool {
        let named = [&self.set_password, &self.create, &self.delete, &self.enable, &self.disable, &self.unlock];
        named.iter().any(|user| user.is_some())
    }
}

impl BmcVerb {
    /// It goes home by itself when it is interrupted: a change is a run, and a log that is followed closes its log-ins.
    pub fn minds_interrupts(&self) -> bool {
        match self {
            BmcVerb::Log(a) => a.follow || a.clear,
            BmcVerb::Bios(a) => a.clear_pending || !a.set.is_empty() || a.secure_boot.is_some(),
            BmcVerb::Firmware(a) => a.update.is_some(),
            BmcVerb::Raid(a) => a.create.is_some() || a.delete.is_some(),
            BmcVerb::Users(a) => a.changes(),
            BmcVerb::Cert(a) => a.replace.is_some(),
            BmcVerb::Media(a) => a.insert.is_some() || a.eject,
            BmcVerb::Nmi(_) | BmcVerb::Reset(_) => true,
            BmcVerb::Info(_) | BmcVerb::Sensors(_) | BmcVerb::Screenshot(_) => false,
            BmcVerb::Trust(_) | BmcVerb::Login(_) | BmcVerb::Scan(_) => false,
        }
    }
}

/// Ask for a BMC's password, try it at one machine, and keep it where the inventory reads it from
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc login n1
    rackctl bmc login --all                          one machine of each credential tells whether it is right
    rackctl bmc login n1 --password-stdin < FILE

Kept in the keyring or the file that the credential names; other sources (exec, env, age, sops) are yours to change.")]
pub struct LogIn {
    #[command(flatten)]
    pub targets: Targets,
    /// One line of standard input instead of a question
    #[arg(long)]
    pub password_stdin: bool,
}

/// Which BMCs answer in a network, by Redfish or else by IPMI, printed as manifests; no password is sent
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl bmc scan 10.0.0.0/24 > inventory/found.yaml
    rackctl bmc scan 10.0.0.0/24 10.1.0.17/32 --table
    rackctl bmc scan 10.0.0.0/24 -o json")]
pub struct Scan {
    /// Networks or single addresses (10.0.0.17/32)
    #[arg(value_name = "CIDR", required = true)]
    pub networks: Vec<ipnet::IpNet>,
    /// Where their Redfish services listen
    #[arg(long, default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Where those without Redfish listen for IPMI
    #[arg(long, default_value_t = 623, value_parser = clap::value_parser!(u16).range(1..))]
    pub ipmi_port: u16,
    /// How long an address may take to say anything at all; --timeout is for all of them together
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = values::duration)]
    pub wait: std::time::Duration,
    /// The credential that the manifests name
    #[arg(long, value_name = "NAME", default_value = "bmc-default")]
    pub credential: String,
    /// A table in place of manifests
    #[arg(long)]
    pub table: bool,
    /// The network namespace in which to look
    #[arg(long, value_name = "NAME")]
    pub netns: Option<String>,
}
