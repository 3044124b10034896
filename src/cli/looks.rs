//! Looks at many machines, side by side: the one way for all verbs that ask and change nothing. ^C or SIGTERM begins no
//! further machine, drops what is under way and closes its log-in; what is known by then is shown.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};

use super::interrupt;
use crate::{
    model::{Failure, failure::Cause},
    output::{Exit, Stop, stdout, tally::Tally},
};

/// How often the line of progress is drawn anew.
const DRAWN_EVERY: Duration = Duration::from_millis(250);

/// What each machine said, in the order in which they were named.
pub type Rows<T> = Vec<(String, Result<T, Failure>)>;

/// So many at the same time as the operator allows. `look` minds the end itself: see [`crate::run::sessions::look`].
pub async fn each<T>(names: &[String], at_once: usize, look: impl AsyncFn(&str) -> Result<T, Failure>) -> Rows<T> {
    let (look, began) = (&look, Instant::now());
    let tally = RefCell::new(Tally::new(names.len()));
    let mut looks = stream::iter(names.iter().enumerate().map(|(place, name)| {
        let tally = &tally;
        async move {
            tally.borrow_mut().begins(name, began.elapsed());
            let row = look(name).await;
            tally.borrow_mut().ends(name, row.is_ok());
            (place, (name.clone(), row))
        }
    }))
    .buffer_unordered(at_once.max(1));
    // One machine needs no counting; and where a pipe takes the rows, its reader has the terminal.
    let shows = names.len() > 1 && stdout::is_terminal() && stdout::stderr_is_terminal();
    let mut drawn = tokio::time::interval(DRAWN_EVERY);
    let mut rows = Vec::with_capacity(names.len());
    loop {
        tokio::select! {
            row = looks.next() => match row {
                Some(row) => rows.push(row),
                None => break,
            },
            _ = drawn.tick(), if shows => stdout::status(&tally.borrow().line(began.elapsed())),
        }
    }
    if shows {
        stdout::status("");
    }
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The exit code of a look, with what went wrong.
pub fn end<T>(rows: Rows<T>) -> Result<Exit, Stop> {
    let exit = Exit::combine(rows.iter().map(|(_, r)| r.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
    let failures: Vec<Failure> = rows.into_iter().filter_map(|(_, r)| r.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures: once(failures) }) }
}

/// That it was interrupted is said once and not for each machine.
pub fn once(mut failures: Vec<Failure>) -> Vec<Failure> {
    let cut = failures.iter().filter(|f| f.cause == Cause::Interrupted).count();
    if cut > 1 {
        failures.retain(|f| f.cause != Cause::Interrupted);
        let why = format!("{cut} machines were not asked to the end");
        failures.push(Failure::new(Cause::Interrupted, "interrupted", why));
    }
    failures
}

/// What `--timeout` has ended is told as that, and not as ^C.
pub fn by_time(mut stop: Stop, after: Option<Duration>) -> Stop {
    let (true, Some(after)) = (interrupt::time_is_over(), after) else { return stop };
    if stop.exit == Exit::Interrupted {
        stop.exit = Exit::Failed;
    }
    for failure in stop.failures.iter_mut().filter(|f| f.cause == Cause::Interrupted) {
        failure.cause = Cause::Deadline;
        failure.why = format!("not done within {after:?} (--timeout); {}", failure.why);
    }
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(cause: Cause) -> Result<(), Failure> {
        Err(Failure::new(cause, "n: ask", "why"))
    }

    #[tokio::test]
    async fn rows_come_in_the_order_of_the_names_and_not_more_at_once_than_allowed() {
        let names: Vec<String> = (0..9).map(|i| format!("n{i}")).collect();
        let (now, most) = (RefCell::new(0), RefCell::new(0));
        let rows = each(&names, 3, async |name| {
            *now.borrow_mut() += 1;
            let busy = *now.borrow();
            most.replace_with(|most| busy.max(*most));
            // The first ones last longest.
            let last: u64 = name.trim_start_matches('n').parse().unwrap();
            tokio::time::sleep(Duration::from_millis(20 - 2 * last)).await;
            *now.borrow_mut() -= 1;
            Ok(name.to_owned())
        })
        .await;
        assert_eq!(rows.iter().map(|(n, _)| n).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        assert!(rows.iter().all(|(name, said)| said.as_ref().is_ok_and(|s| s == name)));
        assert_eq!(*most.borrow(), 3);
    }

    #[test]
    fn an_interruption_is_told_once_beside_what_went_wrong() {
        let row = |result| ("n".to_owned(), result);
        let rows = vec![
            row(Ok(())),
            row(failed(Cause::Interrupted)),
            row(failed(Cause::Busy)),
            row(failed(Cause::Interrupted)),
        ];
        let stop = end(rows).unwrap_err();
        assert_eq!(stop.exit, Exit::Interrupted);
        let causes: Vec<Cause> = stop.failures.iter().map(|f| f.cause).collect();
        assert_eq!(causes, [Cause::Busy, Cause::Interrupted]);
        assert!(stop.failures[1].why.starts_with("2 machines"));
        let stop = end(vec![row(Ok(())), row(failed(Cause::Busy))]).unwrap_err();
        assert_eq!(stop.exit, Exit::Partial);
        assert_eq!(end(vec![row(Ok(()))]).unwrap(), Exit::Done);
    }
}
