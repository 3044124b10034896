//! What the servers report, through a bounded queue: a reader that falls behind never holds up an answer.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use crate::model::{Mac, boot::NetbootEvent};

/// Events that may wait for the parent.
const QUEUE: usize = 4096;
/// Distinct (MAC, reason) pairs that are counted; a flood of made-up MACs beyond that is counted as one.
const REASONS: usize = 512;

type Counts = HashMap<(Option<Mac>, String), u64>;

#[derive(Clone, Debug)]
pub struct Events {
    queue: SyncSender<NetbootEvent>,
    ignored: Arc<Mutex<Counts>>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    pub fn channel() -> (Events, Receiver<NetbootEvent>) {
        let (queue, receiver) = sync_channel(QUEUE);
        (Events { queue, ignored: Arc::default(), dropped: Arc::default() }, receiver)
    }

    /// Never waits. What finds no room is counted and told when there is room again.
    pub fn tell(&self, event: NetbootEvent) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(event) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let reason = "events that found no room in the queue to the run".to_owned();
            let lost = NetbootEvent::DhcpIgnored { mac: None, reason, count: dropped };
            if self.queue.try_send(lost).is_err() {
                self.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
        }
    }

    /// Told at the first time and then whenever the count doubles.
    pub fn ignored(&self, mac: Option<Mac>, reason: String) {
        let count = {
            let mut seen = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
            let key = if seen.len() < REASONS || seen.contains_key(&(mac, reason.clone())) {
                (mac, reason.clone())
            } else {
                (None, "too many different senders to list".to_owned())
            };
            let count = seen.entry(key).or_default();
            *count += 1;
            *count
        };
        if count.is_power_of_two() {
            self.tell(NetbootEvent::DhcpIgnored { mac, reason, count });
        }
    }
}

/// Writes one JSON document a line until the reader or all senders are gone.
pub fn write_lines(receiver: &Receiver<NetbootEvent>, mut to: impl Write) {
    loop {
        let event = match receiver.recv_timeout(Duration::from_secs(3600)) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Ok(mut line) = serde_json::to_vec(&event) else { continue };
        line.push(b'\n');
        if to.write_all(&line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_counted_not_repeated() {
        let (events, receiver) = Events::channel();
        for _ in 0..100 {
            events.ignored(None, "x".to_owned());
        }
        let counts: Vec<u64> = receiver
            .try_iter()
            .map(|e| match e {
                NetbootEvent::DhcpIgnored { count, .. } => count,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(counts, [1, 2, 4, 8, 16, 32, 64]);
    }

    #[test]
    fn a_full_queue_never_waits_and_says_what_was_lost() {
        let (events, receiver) = Events::channel();
        for version in 0..QUEUE as u64 + 10 {
            events.tell(NetbootEvent::TableTaken { version });
        }
        assert_eq!(receiver.try_iter().count(), QUEUE);
        events.tell(NetbootEvent::TableTaken { version: 1 });
        let rest: Vec<_> = receiver.try_iter().collect();
        assert!(matches!(rest.as_slice(), [_, NetbootEvent::DhcpIgnored { count: 10, .. }]), "{rest:?}");
    }
}
