//! Whether a password is known to be right: it is tried at one machine before the rest of its group.
//!
//! A wrong password that goes to a whole fleet locks every BMC of it: three tries lock a Supermicro X13 for 30 s, an
//! iDRAC8 for 600 s. So the first log-in with a password goes alone. Accepted, the others follow side by side; refused,
//! none of them is sent. An account that is locked, or may not log in, is one machine's own matter and says nothing of the
//! password: the next one is the first then. A few such in a row are no accident any more, and end it as a refusal does.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::model::{Failure, failure::Cause};

/// For those who try the same password before.
const TURN: Duration = Duration::from_secs(90);
/// Machines of a group that may turn the account away before the password is held for the reason.
const TURNED_AWAY: usize = 3;

#[derive(Debug)]
enum State {
    /// These nodes' BMCs turned the account away, without a word on the password.
    Unknown(Vec<String>),
    Accepted,
    /// By these nodes' BMCs.
    Refused(Vec<String>),
}

impl Default for State {
    fn default() -> Self {
        State::Unknown(Vec::new())
    }
}

/// What an answer to a log-in says of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// The account is locked, expired or may not log in there: nothing of the password.
    Account,
    Nothing,
}

impl Verdict {
    /// Where nothing more is known than how the log-in ended.
    pub fn of<T>(result: &Result<T, Failure>) -> Verdict {
        match result {
            Ok(_) => Verdict::Right,
            Err(failure) if failure.cause == Cause::Unauthorized => Verdict::Wrong,
            Err(_) => Verdict::Nothing,
        }
    }
}

/// One password of one group. As old as the loaded password: nothing of it outlives the process.
#[derive(Debug, Default)]
pub struct Proof {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

/// The leave to send a log-in. Held until its answer is known; dropped without one, the next log-in is the first.
pub struct Turn<'a> {
    proof: &'a Proof,
    /// `None`: the password is known to be right, and nobody waits.
    alone: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Proof {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn accepted(&self) -> bool {
        matches!(*self.state(), State::Accepted)
    }

    /// Waits until this log-in may be sent. Ask it with the connection open: one that has to be made first would keep
    /// all others waiting.
    ///
    /// # Errors
    /// The password was refused already: it is not tried here. `Deadline`: whoever tries it before gives no answer.
    pub async fn turn(&self, node: &str, user: &str) -> Result<Turn<'_>, Failure> {
        self.turn_within(TURN, node, user).await
    }

    async fn turn_within(&self, limit: Duration, node: &str, user: &str) -> Result<Turn<'_>, Failure> {
        if let Some(known) = self.known(node, user) {
            return known.map(|()| Turn { proof: self, alone: None });
        }
        let Ok(alone) = tokio::time::timeout(limit, self.turn.lock()).await else {
            let why =
                format!("another machine tries the same password, and gave no answer within {} s", limit.as_secs());
            return Err(Failure::new(Cause::Deadline, format!("{node}: log in at its BMC"), why));
        };
        match self.known(node, user) {
            Some(known) => known.map(|()| Turn { proof: self, alone: None }),
            None => Ok(Turn { proof: self, alone: Some(alone) }),
        }
    }

    fn known(&self, node: &str, user: &str) -> Option<Result<(), Failure>> {
        match &*self.state() {
            State::Unknown(_) => None,
            State::Accepted => Some(Ok(())),
            State::Refused(by) => {
                let user = super::redfish::json::clean(user);
                let (names, left_out) = (by.join(", "), by.iter().map(|n| format!("'!{n}'")).collect::<Vec<_>>());
                let why = match by.len() {
                    1 => format!("the BMC of {names} refused this password for `{user}`: it was not tried here"),
                    n => format!("{n} BMCs in a row ({names}) turned `{user}` away: its password was not tried here"),
                };
                let why = format!("{why}. If only that one differs, leave it out with {}", left_out.join(" "));
                let failure = Failure::new(Cause::Unauthorized, format!("{node}: log in at its BMC"), why);
                let first = by.first().map_or(node, String::as_str);
                Some(Err(failure.next(format!("rackctl bmc info {first}"))))
            }
        }
    }
}

impl Turn<'_> {
    /// Whether nobody knows yet if the password is right.
    pub fn is_first(&self) -> bool {
        self.alone.is_some()
    }

    /// What came of the log-in. Only an answer about the password says something of it.
    pub fn settle(self, node: &str, verdict: Verdict) {
        let mut state = self.proof.state();
        // Once it was right somewhere, a refusal is this machine's own matter.
        let State::Unknown(away) = &mut *state else { return };
        match verdict {
            Verdict::Right => *state = State::Accepted,
            Verdict::Wrong => *state = State::Refused(vec![node.to_owned()]),
            Verdict::Account => {
                if !away.iter().any(|known| known == node) {
                    away.push(node.to_owned());
                }
                if away.len() >= TURNED_AWAY {
                    let by = std::mem::take(away);
                    *state = State::Refused(by);
                }
            }
            Verdict::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use super::*;

    fn refused() -> Result<(), Failure> {
        Err(Failure::new(Cause::Unauthorized, "log in", "401"))
    }

    /// How many of 40 log-ins were sent, and how many of them side by side at most; `answer` is by number of the log-in.
    async fn forty(answer: fn(usize) -> Result<(), Failure>) -> (usize, usize, Vec<Result<(), Failure>>) {
        let proof = Arc::new(Proof::default());
        let (sent, now, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let one = async |n: usize| {
            let node = format!("n{n}");
            let turn = proof.turn(&node, "root").await?;
            let number = sent.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let result = answer(number);
            turn.settle(&node, Verdict::of(&result));
            result
        };
        let results = futures_util::future::join_all((0..40).map(one)).await;
        (sent.into_inner(), most.into_inner(), results)
    }

    #[tokio::test]
    async fn a_wrong_password_goes_to_one_machine_of_forty() {
        let (sent, most, results) = forty(|_| refused()).await;
        assert_eq!((sent, most), (1, 1));
        assert!(results[0].as_ref().is_err_and(|f| f.why == "401"));
        for result in &results[1..] {
            let failure = result.as_ref().unwrap_err();
            assert_eq!(failure.cause, Cause::Unauthorized);
            assert!(failure.why.contains("n0") && failure.why.contains("not tried here"), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_right_one_goes_to_one_and_then_to_all_side_by_side() {
        let (sent, most, results) = forty(|_| Ok(())).await;
        assert_eq!((sent, most), (40, 39));
        assert!(results.iter().all(Result::is_ok));
    }

    /// What is down says nothing of the password: the next machine is the first one then.
    #[tokio::test]
    async fn a_machine_that_does_not_answer_does_not_count() {
        let answer = |n| match n {
            0 | 1 => Err(Failure::new(Cause::Unreachable, "log in", "gone")),
            2 => Ok(()),
            3 => refused(),
            _ => Ok(()),
        };
        let (sent, most, results) = forty(answer).await;
        assert_eq!((sent, most), (40, 37), "three alone, then the rest");
        assert_eq!(results.iter().filter(|r| r.is_err()).count(), 3, "one that differs is one that differs");
    }

    #[tokio::test]
    async fn a_log_in_that_was_cut_off_gives_its_turn_back() {
        let proof = Proof::default();
        drop(proof.turn("n1", "root").await);
        let turn = tokio::time::timeout(Duration::from_secs(1), proof.turn("n2", "root")).await.unwrap().unwrap();
        turn.settle("n2", Verdict::Right);
        assert!(proof.accepted());
    }

    #[tokio::test]
    async fn an_account_that_is_locked_on_one_machine_says_nothing_of_the_password() {
        let proof = Proof::default();
        for (node, verdict) in [("n0", Verdict::Account), ("n1", Verdict::Nothing), ("n2", Verdict::Right)] {
            let turn = proof.turn(node, "root").await.unwrap();
            assert!(turn.is_first(), "{node} goes alone");
            turn.settle(node, verdict);
        }
        assert!(proof.accepted());
    }

    #[tokio::test]
    async fn a_few_machines_that_turn_the_account_away_end_the_trying_and_are_named() {
        let proof = Proof::default();
        for node in ["n0", "n0", "n1", "n2"] {
            proof.turn(node, "root").await.unwrap().settle(node, Verdict::Account);
        }
        let told = proof.turn("n3", "root").await.err().unwrap();
        assert_eq!(told.cause, Cause::Unauthorized);
        assert!(told.why.contains("(n0, n1, n2)") && told.why.contains("'!n0' '!n1' '!n2'"), "{told}");
        let wrong = Proof::default();
        wrong.turn("n7", "root").await.unwrap().settle("n7", Verdict::Wrong);
        let told = wrong.turn("n8", "root").await.err().unwrap();
        assert!(told.why.contains("the BMC of n7 refused") && told.why.contains("'!n7'"), "{told}");
        assert_eq!(told.next.as_deref(), Some("rackctl bmc info n7"));
    }

    #[tokio::test]
    async fn whoever_waits_for_one_that_never_answers_does_not_wait_for_ever() {
        let proof = Proof::default();
        let _held = proof.turn("n0", "root").await.unwrap();
        let late = proof.turn_within(Duration::from_millis(50), "n1", "root").await.err().unwrap();
        assert_eq!(late.cause, Cause::Deadline);
        assert!(late.why.contains("another machine tries the same password"), "{late}");
    }
}
