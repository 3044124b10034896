//! The hidden verb that a simulated machine's SSH server runs, whatever the client asked for: it asks the supervisor.

use std::{
    io::{Read, Write},
    path::Path,
    process::ExitCode,
};

use rackctl_wire::BODY_MAX_BYTES;

use super::sshd;
use crate::lab::{
    control::{Request, Response},
    control_client,
};

/// `PROGRAM __lab-node SOCKET NODE`
pub const VERB: &str = "__lab-node";
/// What sshd leaves of the client's own command.
const COMMAND_VARIABLE: &str = "SSH_ORIGINAL_COMMAND";

/// The argument list that [`main`] is behind. The program is the supervisor's own, by its process: the file may be
/// replaced while the laboratory stands.
pub fn command(control: &Path, node: &str) -> Vec<String> {
    let program = format!("/proc/{}/exe", std::process::id());
    vec![program, VERB.to_owned(), control.display().to_string(), node.to_owned()]
}

pub fn main(control: &Path, node: &str) -> ExitCode {
    let wanted = std::env::var(COMMAND_VARIABLE).unwrap_or_default();
    let words = sshd::words(&wanted);
    let mut stdin = String::new();
    // The one command that is given something.
    if words.iter().map(String::as_str).eq(["rackctl-node", "etcd", "start"])
        && let Err(error) = std::io::stdin().take(BODY_MAX_BYTES as u64).read_to_string(&mut stdin)
    {
        eprintln!("rackctl-node: standard input: {error}");
        return ExitCode::FAILURE;
    }
    let request = Request::Node { node: node.to_owned(), words, stdin };
    let said = match control_client::ask(node, control, &request) {
        Ok(Response::Node { said }) => said,
        Ok(_) => {
            eprintln!("rackctl-node: the supervisor answers something else");
            return ExitCode::FAILURE;
        }
        Err(failure) => {
            eprintln!("rackctl-node: {failure}");
            return ExitCode::FAILURE;
        }
    };
    eprint!("{}", said.stderr);
    // Nobody to read it is nobody's fault.
    let _ = std::io::stdout().write_all(said.stdout.as_bytes());
    ExitCode::from(u8::try_from(said.status).unwrap_or(1))
}
