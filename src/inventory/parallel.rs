//! The same work on many things, by as many threads as help. Results stand in the order of the things.

use std::{num::NonZero, thread};

use super::fault::Report;

/// More threads gain nothing here: memory is what they would wait for.
const MAX_THREADS: usize = 8;
/// Fewer things than this are quicker done than a thread is started.
const MIN_EACH: usize = 64;

/// The things in pieces, one for each thread; `work` is given a piece and a report of its own.
pub(super) fn pieces<T: Send, R: Send>(
    things: Vec<T>,
    most: usize,
    report: &mut Report,
    work: impl Fn(Vec<T>, &mut Report) -> Vec<R> + Sync,
) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MAX_THREADS).min(things.len() / most.max(1)).max(1);
    if threads == 1 {
        return work(things, report);
    }
    let each = things.len().div_ceil(threads);
    let mut things = things.into_iter();
    let mut done = Vec::new();
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let piece: Vec<T> = things.by_ref().take(each).collect();
                scope.spawn(move || {
                    let mut report = Report::default();
                    (work(piece, &mut report), report)
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok((results, faults)) => {
                    done.extend(results);
                    report.join(faults);
                }
                // A panic is a fault of ours, here as it would be without threads.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done
}

/// As [`pieces`], one thing at a time.
pub(super) fn each<T: Send, R: Send>(
    things: Vec<T>,
    report: &mut Report,
    work: impl Fn(T, &mut Report) -> R + Sync,
) -> Vec<R> {
    pieces(things, MIN_EACH, report, |piece, report| piece.into_iter().map(|thing| work(thing, report)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fault::At;

    #[test]
    fn results_and_faults_stand_in_the_order_of_the_things() {
        let mut report = Report::default();
        let things: Vec<u32> = (0..1000).collect();
        let doubled = each(things, &mut report, |n, report| {
            if n % 100 == 0 {
                report.add(At { file: 0, line: n, column: 1 }, "", n.to_string(), None);
            }
            2 * n
        });
        assert!(doubled.iter().enumerate().all(|(i, n)| *n as usize == 2 * i) && doubled.len() == 1000);
        let lines: Vec<u32> = report.into_faults(&[]).iter().map(|f| f.line).collect();
        assert_eq!(lines, (0..10).map(|n| n * 100).collect::<Vec<_>>());
        assert!(each(Vec::<u8>::new(), &mut Report::default(), |n, _| n).is_empty());
    }
}
