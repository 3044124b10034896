//! Whether a password is known to be right: it is tried at one machine before the rest of its group.
//!
//! A wrong password that goes to a whole fleet locks every BMC of it: three tries lock a Supermicro X13 for 30 s, an
//! iDRAC8 for 600 s. So the first log-in with a password goes alone. Accepted, the others follow side by side; refused,
//! none of them is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Failure, failure::Cause};

#[derive(Debug, Default)]
enum State {
    #[default]
    Unknown,
    Accepted,
    /// By this node's BMC.
    Refused(String),
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
    /// The password was refused already: it is not tried here.
    pub async fn turn(&self, node: &str, user: &str) -> Result<Turn<'_>, Failure> {
        if let Some(known) = self.known(node, user) {
            return known.map(|()| Turn { proof: self, alone: None });
        }
        let alone = self.turn.lock().await;
        match self.known(node, user) {
            Some(known) => known.map(|()| Turn { proof: self, alone: None }),
            None => Ok(Turn { proof: self, alone: Some(alone) }),
        }
    }

    fn known(&self, node: &str, user: &str) -> Option<Result<(), Failure>> {
        match &*self.state() {
            State::Unknown => None,
            State::Accepted => Some(Ok(())),
            State::Refused(by) => {
                let user = super::redfish::json::clean(user);
                let why = format!("the BMC of {by} refused this password for `{user}`: it was not tried here");
                let failure = Failure::new(Cause::Unauthorized, format!("{node}: log in at its BMC"), why);
                Some(Err(failure.next(format!("rackctl bmc info {node}"))))
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
    pub fn settle<T>(self, node: &str, result: &Result<T, Failure>) {
        let mut state = self.proof.state();
        match (result, &*state) {
            (Ok(_), State::Unknown) => *state = State::Accepted,
            // Once it was right somewhere, a refusal is this machine's own matter.
            (Err(failure), State::Unknown) if failure.cause == Cause::Unauthorized => {
                *state = State::Refused(node.to_owned());
            }
            _ => {}
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
            turn.settle(&node, &result);
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
        turn.settle("n2", &Ok(()));
        assert!(proof.accepted());
    }
}
