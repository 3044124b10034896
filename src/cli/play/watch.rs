//! Beside the steps of a playbook: keeps its lock alive, and hears ^C and the wishes of `pause` and `abort`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::super::{interrupt, session::Session};
use crate::{
    model::{Failure, failure::Cause},
    output::stdout,
    run::clock,
    store::{Control, ControlKind, Fence, Store, StoreError},
};

/// How often wishes are looked for.
const PULSE: Duration = Duration::from_millis(500);
/// Renewals in the time of one lease.
const RENEWALS: u32 = 6;

/// Why no further step is begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    None,
    Interrupt,
    Pause,
    Abort,
    /// The lock went to somebody else, or cannot be kept: he carries the playbook on.
    Lost(Failure),
}

pub struct Watch {
    wish: watch::Receiver<Wish>,
    /// The run of the step in hand: a wish is handed on to it.
    child: Arc<Mutex<Option<String>>>,
    over: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    pub fn start(session: &Session, run: &str, fence: &Fence) -> Result<Watch, Failure> {
        let (say, wish) = watch::channel(Wish::None);
        let (over, ended) = watch::channel(false);
        let child = Arc::new(Mutex::new(None));
        let ear = Ear {
            store: Arc::clone(&session.store),
            run: run.to_owned(),
            fence: fence.clone(),
            lease: session.lease,
            child: Arc::clone(&child),
            say,
        };
        let local = |e: std::io::Error| Failure::new(Cause::Local, "watch the playbook", e.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(local)?;
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || runtime.block_on(ear.listen(ended)))
            .map_err(local)?;
        Ok(Watch { wish, child, over, thread: Some(thread) })
    }

    pub fn wish(&self) -> Wish {
        self.wish.borrow().clone()
    }

    pub fn wished(&self) -> bool {
        self.wish() != Wish::None
    }

    /// Ends when something is wished.
    pub async fn heard(&self) {
        let mut wish = self.wish.clone();
        // Without the ear nothing is ever heard.
        if wish.wait_for(|w| *w != Wish::None).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The run that wishes are handed on to from now on.
    pub fn hand_on_to(&self, run: Option<&str>) {
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = run.map(str::to_owned);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.over.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Ear {
    store: Arc<dyn Store>,
    run: String,
    fence: Fence,
    lease: Duration,
    child: Arc<Mutex<Option<String>>>,
    say: watch::Sender<Wish>,
}

impl Ear {
    async fn listen(self, mut over: watch::Receiver<bool>) {
        let first = "interrupted: finishing what is in hand (again to stop at once)";
        let again = format!("stopped at once; go on with: rackctl resume {}", self.run);
        let Ok(ear) = interrupt::listen(first, again) else { return };
        let mut told = ear.told();
        // What a playbook puts away at its end is not to be cut off by a first ^C.
        ear.for_good();
        let mut pulse = tokio::time::interval(PULSE);
        let mut renewal = tokio::time::interval(self.lease / RENEWALS);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = false;
        let (mut missed, mut control) = (None, None);
        loop {
            tokio::select! {
                _ = over.wait_for(|over| *over) => return,
                _ = told.wait_for(|told| *told), if !heard => heard = true,
                _ = renewal.tick() => {
                    self.renew(&mut missed);
                    continue;
                }
                _ = pulse.tick() => {
                    self.look(&mut control);
                    continue;
                }
            }
            self.wish(Wish::Interrupt);
        }
    }

    fn child(&self) -> Option<String> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A stronger wish stays.
    fn wish(&self, wish: Wish) {
        self.say.send_if_modified(|now| {
            let stays = matches!(now, Wish::Abort | Wish::Lost(_)) && !matches!(wish, Wish::Lost(_));
            let news = !stays && *now != wish;
            if news {
                *now = wish;
            }
            news
        });
    }

    fn renew(&self, missed: &mut Option<Duration>) {
        match self.store.renew(&self.fence, &clock::stamp()) {
            Ok(()) => *missed = None,
            Err(error @ StoreError::Fenced { .. }) => {
                let failure = error.to_failure();
                self.wish(Wish::Lost(failure));
            }
            // The store may come back; when the lease is nearly over, nothing more is begun.
            Err(error) => {
                let since = *missed.get_or_insert_with(clock::since_boot);
                if clock::since_boot().saturating_sub(since) > self.lease / 2 {
                    self.wish(Wish::Lost(error.to_failure()));
                }
            }
        }
    }

    fn look(&self, before: &mut Option<Control>) {
        let Ok(control) = self.store.control(&self.run) else { return };
        let kind = control.as_ref().map(|c| c.kind);
        if let (Some(wanted), Some(child)) = (&control, self.child()) {
            // Handed on again whenever another run came into hand.
            let known = self.store.control(&child).ok().flatten().is_some_and(|c| c.kind == wanted.kind);
            if !known && let Err(error) = self.store.set_control(&child, Some(wanted)) {
                stdout::note(&format!("warning: run {child} was not told: {error}"));
            }
        }
        if control != *before {
            match kind {
                Some(ControlKind::Pause) => self.wish(Wish::Pause),
                Some(ControlKind::Abort) => self.wish(Wish::Abort),
                None => {}
            }
            *before = control;
        }
    }
}
