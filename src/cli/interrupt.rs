//! ^C, SIGTERM and SIGHUP, heard in one place for the whole program: the first one is told to whoever listens, the second
//! one ends the program at once. While nobody listens, the first one does.

use std::{
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, stdout},
};

static TOLD: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);
static EARS: Mutex<Ears> = Mutex::new(Ears { hears: false, count: 0, open: Vec::new() });
/// It was `--timeout` that told the looks to end.
static TIME_IS_OVER: AtomicBool = AtomicBool::new(false);

struct Ears {
    /// The thread is there.
    hears: bool,
    count: u64,
    /// Who listens, the last one on top: its words are said.
    open: Vec<(u64, Words)>,
}

#[derive(Clone, Default)]
struct Words {
    first: String,
    again: String,
    /// It looks at machines and changes nothing: `--timeout` may end it so.
    looks: bool,
}

fn ears() -> MutexGuard<'static, Ears> {
    EARS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who listens, until this goes.
#[must_use]
pub struct Ear(u64);

impl Ear {
    /// Turns true at the first signal, and stays so.
    pub fn told(&self) -> watch::Receiver<bool> {
        TOLD.subscribe()
    }

    /// For what still has to be put away after the listening: from now on no first signal ends the program.
    pub fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        ears().open.retain(|(id, _)| *id != self.0);
    }
}

/// From now on the first signal is told, with `first` as a message, and the second ends the program with `again`; an
/// empty text is not said.
///
/// # Errors
/// Signals cannot be listened for.
pub fn listen(first: impl Into<String>, again: impl Into<String>) -> Result<Ear, Failure> {
    ear(Words { first: first.into(), again: again.into(), looks: false })
}

/// As [`listen`], for what only looks.
///
/// # Errors
/// As there.
pub fn looks() -> Result<Ear, Failure> {
    let first = "interrupted: log-ins are closed first (again to stop at once)".into();
    let again = "stopped at once; a log-in that is left open is closed by the next one".into();
    ear(Words { first, again, looks: true })
}

fn ear(words: Words) -> Result<Ear, Failure> {
    let mut ears = ears();
    if !ears.hears {
        start().map_err(|e| Failure::new(Cause::Local, "listen for ^C", e.to_string()))?;
        ears.hears = true;
    }
    ears.count += 1;
    let id = ears.count;
    ears.open.push((id, words));
    Ok(Ear(id))
}

/// A thread for the rest of the program: once signals are caught, nobody else ends it.
fn start() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
    };
    thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(hear(signals))).map(drop)
}

async fn hear([mut int, mut term, mut hup]: [Signal; 3]) {
    loop {
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {}, _ = hup.recv() => {} }
        let words = ears().open.last().map(|(_, words)| words.clone());
        let first = !*TOLD.borrow();
        match words {
            Some(words) if first => {
                say(&words.first);
                TOLD.send_replace(true);
            }
            words => {
                say(&words.unwrap_or_default().again);
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    }
}

fn say(words: &str) {
    if !words.is_empty() {
        stdout::note(words);
    }
}

/// `--timeout` is over: looks are told to end as by ^C. False where nobody looks, or was told already.
pub fn end_looks() -> bool {
    let ears = ears();
    let ends = !ears.open.is_empty() && ears.open.iter().all(|(_, words)| words.looks) && !*TOLD.borrow();
    if ends {
        TIME_IS_OVER.store(true, Ordering::Relaxed);
        TOLD.send_replace(true);
    }
    ends
}

pub fn time_is_over() -> bool {
    TIME_IS_OVER.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: what it speaks of is the program's alone.
    #[test]
    fn who_listens_is_known_and_only_looks_are_ended_by_time() {
        assert!(!end_looks(), "nobody looks");
        let run = listen("first", "again").unwrap();
        let look = looks().unwrap();
        assert_eq!(ears().open.len(), 2);
        assert!(!end_looks() && !*look.told().borrow(), "a run has its own way to end");
        drop(run);
        assert_eq!(ears().open.len(), 1);
        assert!(end_looks() && time_is_over() && *look.told().borrow());
        assert!(!end_looks(), "told once");
        drop(look);
        assert!(ears().open.is_empty());
    }
}
