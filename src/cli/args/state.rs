//! Verbs about what rackctl keeps: the journal's proof, locks, the store.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Prove the journal, or hand it out
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Every record holds the hash of the one before. What was edited, removed or reordered is named, exit 1.

EXAMPLES
    rackctl audit verify
    rackctl audit verify --head 3f2a9c01...    the hash of an earlier summary is still in the chain
    rackctl audit export --out audit.jsonl
    rackctl audit verify --file audit.jsonl    needs no store")]
pub struct Audit {
    #[command(subcommand)]
    pub verb: AuditVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AuditVerb {
    /// Check every record and the whole chain
    Verify {
        /// An export instead of the store
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// A hash, or its beginning, that a summary printed: its record must be there
        #[arg(long, value_name = "HASH", value_parser = head)]
        head: Option<String>,
    },
    /// Write the records as JSON lines
    Export {
        /// Those of one run alone
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Where to [default: standard output]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
}

/// Beginning of a SHA-256 in hex: long enough to mean one record.
fn head(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match (8..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err("a hash is 8 to 64 hexadecimal digits".to_owned()),
    }
}

/// Who works on what
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl lock list
    rackctl lock steal node/n1 --reason \"ann's laptop is at home\"
    rackctl lock steal --run r-20260102-1530 --reason \"host is gone\" --yes")]
pub struct Lock {
    #[command(subcommand)]
    pub verb: LockVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LockVerb {
    /// All locks with holder, host and age
    List,
    /// Take locks from a holder that will not come back; journaled with the reason
    #[command(after_help = "\
The lease must have run out, unless --force is given. A holder that still lives is fenced off: its next
record is refused, and it stops. What it began at a machine is not undone: look at the machine first.

EXAMPLES
    rackctl lock steal node/n1 node/n2 --reason \"ann's laptop is at home\"
    rackctl lock steal --run r-20260102-1530 --reason \"it hangs\" --force --yes")]
    Steal {
        /// Names as `lock list` shows them: node/n1, cluster/core, network/prov
        #[arg(value_name = "NAME", required_unless_present = "run", conflicts_with = "run")]
        names: Vec<String>,
        /// All locks of this run
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Why; kept in the journal
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// Also from a holder whose lease is good
        #[arg(long)]
        force: bool,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

/// Move the state between stores, and from older versions
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl store export --out state.json
    rackctl --store sqlite:/srv/rackctl/state.db store import state.json
    rackctl store migrate --to etcd://10.0.9.1:2379,10.0.9.2:2379,10.0.9.3:2379/fra1
    rackctl store migrate")]
pub struct Store {
    #[command(subcommand)]
    pub verb: StoreVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum StoreVerb {
    /// Write everything but locks into one file
    Export {
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
    },
    /// Fill an empty store from an export; its chain must hold
    Import {
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Move everything but locks into another, empty store; or bring a state file of an older version to this one
    #[command(after_help = "\
With --to: the store is closed first, so that nobody goes on with it, then copied, and stays closed: every verb
that comes to it is told where its content is. Nobody may hold a lock meanwhile. One that was broken off is done
again by the same command, or taken back with --undo. Without --to: a state file of an older version becomes one
of this version, and a copy of it is kept.

EXAMPLES
    rackctl store migrate --to etcd://10.0.9.1:2379,10.0.9.2:2379,10.0.9.3:2379/fra1
    rackctl --store etcd://10.0.9.1:2379/fra1 store migrate --to sqlite:/srv/rackctl/state.db
    rackctl store migrate --undo
    rackctl store migrate")]
    Migrate {
        /// Into this store: sqlite:PATH or etcd://HOST:PORT,…/PREFIX
        #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
        to: Option<String>,
        /// Open a store again whose move did not come to its end
        #[arg(long, conflicts_with = "to")]
        undo: bool,
        /// With --undo: also when the other store cannot be asked, or has the content already
        #[arg(long, requires = "undo")]
        force: bool,
    },
}

/// The state of this fleet, when it was lost
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
EXAMPLES
    rackctl state rebuild --dry-run
    rackctl state rebuild --trust-host-keys --yes")]
pub struct State {
    #[command(subcommand)]
    pub verb: StateVerb,
}

#[derive(Clone, Debug, Subcommand)]
pub enum StateVerb {
    /// Make a new state from what machines and clusters say; nothing is written to any of them
    #[command(after_help = "\
What cannot be told of a machine is recorded as unknown: no later apply installs it by itself. A state that
is there and whole is kept, and only its unknown machines are looked at again.

EXAMPLES
    rackctl state rebuild --dry-run              what would be recorded, with host key fingerprints
    rackctl state rebuild --trust-host-keys      after you compared them with the machines' consoles")]
    Rebuild {
        /// Believe the SSH host keys that the machines show now (their fingerprints are printed)
        #[arg(long)]
        trust_host_keys: bool,
        /// This cluster does not exist (any more): it may be made anew. Repeatable
        #[arg(long, value_name = "NAME")]
        no_cluster: Vec<String>,
        /// Replace also a state that can be read
        #[arg(long)]
        force: bool,
        /// Show what would be recorded, and record nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
}
