//! The waiting against a machine that does what a test says.

use std::sync::Mutex;

use super::*;

const LIMIT: Duration = Duration::from_secs(4);

/// What it shows, look by look; the last for ever.
struct Machine {
    can: Can,
    shows: Mutex<Vec<Result<Glimpse, Cause>>>,
    sent: Mutex<Vec<PowerAction>>,
}

fn glimpse(power: PowerState, mark: Option<&str>, progress: Option<&str>) -> Result<Glimpse, Cause> {
    Ok(Glimpse { power, mark: mark.map(str::to_owned), progress: reset::progress(progress) })
}

fn on(mark: Option<&str>) -> Result<Glimpse, Cause> {
    glimpse(PowerState::On, mark, None)
}

fn machine(offers: &[PowerAction], marks: bool, shows: Vec<Result<Glimpse, Cause>>) -> Machine {
    let can = Can { now: PowerState::On, offers: offers.to_vec(), marks, told: "it allows: some".into() };
    Machine { can, shows: Mutex::new(shows), sent: Mutex::default() }
}

impl Machine {
    fn next(&self) -> Result<Glimpse, Failure> {
        let mut shows = self.shows.lock().unwrap();
        let now = if shows.len() > 1 { shows.remove(0) } else { shows[0].clone() };
        now.map_err(|cause| Failure::new(cause, "n1: read the power state", "no answer"))
    }
    fn sent(&self) -> Vec<PowerAction> {
        self.sent.lock().unwrap().clone()
    }
}

impl Driven for Machine {
    type Request = PowerAction;

    fn node(&self) -> &str {
        "n1"
    }
    fn deadline(&self) -> Duration {
        Duration::from_secs(30)
    }
    async fn power_now(&self) -> Result<PowerState, Failure> {
        Ok(self.next()?.power)
    }
    async fn glimpse(&self) -> Result<Glimpse, Failure> {
        self.next()
    }
    async fn can(&self) -> Result<Can, Failure> {
        Ok(self.can.clone())
    }
    async fn prepare(&self, action: PowerAction, _: &str) -> Result<PowerAction, Failure> {
        Ok(action)
    }
    async fn may_leave(&self, _: PowerAction) -> Result<(), Failure> {
        Ok(())
    }
    async fn send(&self, request: &PowerAction, _: &str) -> Result<Sent, Failure> {
        self.sent.lock().unwrap().push(*request);
        Ok(Sent::Accepted)
    }
}

fn reset_hard() -> Wish {
    Wish { action: PowerAction::ForceRestart, force: true, wait: true }
}

const WHOLE: &[PowerAction] = &[PowerAction::On, PowerAction::ForceRestart];

// fault: F3 invariant: I15 harness: D
#[tokio::test]
async fn a_restart_is_done_when_something_shows_it() {
    let ignored = machine(WHOLE, true, vec![on(Some("2026-01-01"))]);
    let failure = drive(&ignored, reset_hard(), LIMIT).await.unwrap_err();
    assert_eq!(failure.cause, Cause::AcceptedButIgnored, "{failure}");
    assert_eq!(ignored.sent(), [PowerAction::ForceRestart], "never twice");
    let before = || on(Some("2026-01-01"));
    let marked = machine(WHOLE, true, vec![before(), before(), on(Some("2026-02-02"))]);
    assert_eq!(drive(&marked, reset_hard(), LIMIT).await.unwrap(), None);
    let through_off =
        machine(WHOLE, true, vec![before(), before(), glimpse(PowerState::PoweringOff, None, None), before()]);
    assert_eq!(drive(&through_off, reset_hard(), LIMIT).await.unwrap(), None);
    let state = |word| glimpse(PowerState::On, None, Some(word));
    let begins_anew =
        machine(WHOLE, false, vec![state("OSRunning"), state("OSRunning"), state("MemoryInitializationStarted")]);
    assert_eq!(drive(&begins_anew, reset_hard(), LIMIT).await.unwrap(), None);
}

// fault: F3 invariant: I15 harness: D
#[tokio::test]
async fn what_cannot_be_told_is_told_as_that() {
    let silent = machine(WHOLE, false, vec![on(None)]);
    let untold = drive(&silent, reset_hard(), LIMIT).await.unwrap().unwrap();
    assert!(untold.contains("cannot be told"), "{untold}");
    // A start that goes on is not one that began anew.
    let state = |word| glimpse(PowerState::On, None, Some(word));
    let goes_on = machine(WHOLE, false, vec![state("OSBootStarted"), state("OSBootStarted"), state("OSRunning")]);
    assert!(drive(&goes_on, reset_hard(), LIMIT).await.unwrap().is_some());
}

// fault: F3 invariant: I15 harness: D
#[tokio::test]
async fn where_nothing_would_show_it_off_and_on_are_seen() {
    let off = || glimpse(PowerState::Off, None, None);
    let parts = machine(&reset::ACTIONS, false, vec![on(None), off(), off(), on(None)]);
    assert_eq!(drive(&parts, reset_hard(), LIMIT).await.unwrap(), None);
    assert_eq!(parts.sent(), [PowerAction::ForceOff, PowerAction::On]);
    let ignored = machine(&reset::ACTIONS, false, vec![on(None)]);
    let failure = drive(&ignored, reset_hard(), LIMIT).await.unwrap_err();
    assert_eq!((failure.cause, ignored.sent()), (Cause::AcceptedButIgnored, vec![PowerAction::ForceOff]), "{failure}");
}

// fault: F2 invariant: I15 harness: D
#[tokio::test]
async fn a_bmc_that_is_away_meanwhile_ends_nothing() {
    let (before, after) = (on(Some("2026-01-01")), on(Some("2026-02-02")));
    let gone = |n: usize, cause| vec![Err(cause); n];
    for cause in [Cause::Unreachable, Cause::Deadline, Cause::Busy] {
        let shows = [vec![before.clone()], gone(2, cause), vec![after.clone()]].concat();
        let back = machine(WHOLE, true, shows);
        assert_eq!(drive(&back, reset_hard(), LIMIT).await.unwrap(), None, "{cause:?}");
        let cut = Wish { action: PowerAction::ForceOff, ..reset_hard() };
        let off = glimpse(PowerState::Off, None, None);
        let shows = [vec![before.clone()], gone(2, cause), vec![off]].concat();
        let back = machine(&reset::ACTIONS, true, shows);
        assert_eq!(drive(&back, cut, LIMIT).await.unwrap(), None, "{cause:?}");
        assert_eq!(back.sent(), [PowerAction::ForceOff]);
    }
    let never = machine(WHOLE, true, [vec![before.clone()], gone(1, Cause::Unreachable)].concat());
    let failure = drive(&never, reset_hard(), LIMIT).await.unwrap_err();
    assert!(failure.cause == Cause::Unreachable && failure.why.contains("not verified within"), "{failure}");
    let refused = machine(WHOLE, true, [vec![before], gone(1, Cause::Untrusted)].concat());
    assert_eq!(drive(&refused, reset_hard(), LIMIT).await.unwrap_err().cause, Cause::Untrusted);
}
