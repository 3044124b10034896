//! Drivers that have everything ready to take a machine away ask here, and wait for the engine's word.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::{
    model::{Failure, failure::Cause},
    plan::StepId,
};

type Word = Result<(), Failure>;

/// As many entries as steps are in hand, at most.
#[derive(Debug, Default)]
pub struct Permits {
    waiting: Mutex<BTreeMap<StepId, oneshot::Sender<Word>>>,
    asked: Mutex<Vec<StepId>>,
    woken: Notify,
}

fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Permits {
    /// Waits until the step may send what takes its machine away.
    ///
    /// # Errors
    /// Why it may not: nothing is to be sent.
    pub async fn ask(&self, step: &str) -> Word {
        let (tell, told) = oneshot::channel();
        unpoisoned(&self.waiting).insert(step.to_owned(), tell);
        unpoisoned(&self.asked).push(step.to_owned());
        self.woken.notify_one();
        told.await.unwrap_or_else(|_| {
            Err(Failure::new(Cause::Interrupted, format!("{step}: take its machine away"), "it was asked anew"))
        })
    }

    /// Steps that have asked since the last call; waits for the first.
    pub async fn asked(&self) -> Vec<StepId> {
        loop {
            let asked = std::mem::take(&mut *unpoisoned(&self.asked));
            if !asked.is_empty() {
                return asked;
            }
            self.woken.notified().await;
        }
    }

    pub fn answer(&self, step: &str, word: Word) {
        if let Some(tell) = unpoisoned(&self.waiting).remove(step) {
            // Cut off meanwhile: nobody sends anything.
            let _ = tell.send(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_waits_for_the_word() {
        let permits = Permits::default();
        let no = Failure::new(Cause::Guard, "n1", "too many are away");
        let engine = async {
            let asked = permits.asked().await;
            permits.answer(&asked[0], Err(no.clone()));
            permits.answer("nobody", Ok(()));
        };
        let (word, ()) = tokio::join!(permits.ask("n1/set-power"), engine);
        assert_eq!(word, Err(no));
    }
}
