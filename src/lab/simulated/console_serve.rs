//! The serial port of a simulated machine: a log, and a socket where it is on.

use std::{
    fs,
    io::Write,
    sync::{Mutex, PoisonError},
};

use tokio::{io::AsyncWriteExt, net::UnixListener, sync::broadcast};

use crate::lab::{layout::MachineLayout, process_exec};

/// Lines that somebody who reads slowly may be behind.
const BEHIND_MAX: usize = 256;

pub struct Console {
    files: MachineLayout,
    log: Mutex<Option<fs::File>>,
    lines: broadcast::Sender<String>,
}

impl Console {
    pub fn new(files: MachineLayout) -> Console {
        Console { files, log: Mutex::new(None), lines: broadcast::channel(BEHIND_MAX).0 }
    }

    /// One line, without control characters.
    pub fn say(&self, text: &str) {
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        let line = format!("{clean}\r\n");
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_none() {
            *log = fs::OpenOptions::new().create(true).append(true).open(self.files.serial_log()).ok();
        }
        // A log that cannot be written stops no machine.
        if let Some(file) = log.as_mut() {
            let _ = file.write_all(line.as_bytes());
        }
        let _ = self.lines.send(line);
    }

    /// While the machine is on: one reader at a time, as of a real port. What it types goes nowhere.
    pub async fn serve(&self) {
        let path = self.files.serial_socket();
        if process_exec::remove_if_there(&path).is_err() {
            return;
        }
        let Ok(listener) = UnixListener::bind(&path) else { return };
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut lines = self.lines.subscribe();
            loop {
                match lines.recv().await {
                    Ok(line) => {
                        if stream.write_all(line.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        }
    }
}
