//! Asks a running supervisor.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{
    control::{LINE_MAX, Request, Response},
    process_exec::local,
};
use crate::model::{Failure, failure::Cause};

/// Ending several machines takes the supervisor some seconds.
const ANSWER: Duration = Duration::from_secs(60);

pub fn ask(lab: &str, socket: &Path, request: &Request) -> Result<Response, Failure> {
    let what = || format!("lab {lab}: ask its supervisor");
    let unreachable =
        |error: std::io::Error| Failure::new(Cause::Unreachable, what(), error.to_string()).next("rackctl lab list");
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(ANSWER)).map_err(unreachable)?;
    stream.set_write_timeout(Some(ANSWER)).map_err(unreachable)?;
    let mut line = serde_json::to_vec(request).map_err(|e| local(what(), e))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(unreachable)?;
    let mut answer = Vec::new();
    BufReader::new(stream).take(LINE_MAX).read_until(b'\n', &mut answer).map_err(unreachable)?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Failed { failure }) => Err(failure),
        Ok(response) => Ok(response),
        Err(error) => Err(Failure::new(Cause::Malformed, what(), error.to_string())),
    }
}
