//! One look over a selection: side by side, a log-in a machine, shown in every format.

use std::{pin::Pin, time::Duration};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bmc,
    cli::{
        args::Targets,
        globals::Globals,
        seen,
        session::{Session, block_on},
        targets::{self, Nothing},
    },
    model::Failure,
    output::{Exit, Stop, Table, stdout},
};

/// For each call to a BMC. A log of thousands of entries takes a slow one minutes.
pub const LOOK: Duration = Duration::from_secs(180);

/// What each machine said, in the inventory's order.
pub type Rows<T> = Vec<(String, Result<T, Failure>)>;
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Names of a selection, with a session that stands in their networks.
pub fn chosen(globals: &Globals, targets: &Targets) -> Result<(Session, Vec<String>), Stop> {
    let session = Session::open(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    Ok((session, names))
}

/// Asks every machine of a selection.
pub fn over<T: Send>(
    globals: &Globals,
    targets: &Targets,
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a, T> + Send + Sync,
) -> Result<Rows<T>, Stop> {
    let (session, names) = chosen(globals, targets)?;
    block_on(async {
        let passwords = session.passwords(&names).await?;
        Ok(each(&session, &names, &passwords, &operation).await)
    })
}

/// Logs in, asks, logs out; so many machines side by side as `--concurrency` says.
pub async fn each<T: Send>(
    session: &Session,
    names: &[String],
    passwords: &bmc::Passwords,
    operation: &(impl for<'a> Fn(&'a bmc::Client) -> Doing<'a, T> + Send + Sync),
) -> Rows<T> {
    let mut rows: Rows<T> = stream::iter(names.iter().map(|name| async move {
        let result = async {
            let client = session.bmc(session.node(name)?, passwords, LOOK).await?;
            let result = operation(&client).await;
            if result.is_ok() {
                // What is not among what is shown, and is there all the same.
                client.unread().iter().for_each(|line| stdout::note(&format!("{name}: not read: {line}")));
            }
            let _ = client.close().await;
            result
        }
        .await;
        (name.clone(), result)
    }))
    .buffer_unordered(session.concurrency.max(1))
    .collect()
    .await;
    let order: std::collections::BTreeMap<&String, usize> = names.iter().enumerate().map(|(at, n)| (n, at)).collect();
    rows.sort_by_key(|(name, _)| order.get(name).copied());
    rows
}

/// The document of one machine: `status` is what it said, or why it did not.
pub fn item<T: Serialize>(name: &str, result: &Result<T, Failure>) -> Value {
    let status = match result {
        Ok(value) => serde_json::to_value(value).unwrap_or_default(),
        Err(failure) => json!({ "failure": failure }),
    };
    json!({ "apiVersion": "rackctl.dev/v1alpha1", "kind": "Bmc", "metadata": { "name": name }, "spec": {}, "status": status })
}

/// Prints, and gives the exit code: 3 where every machine lacks it, 4 for a mixture. `lines`: rows of a machine without
/// its name.
pub fn show<T: Serialize>(
    globals: &Globals,
    rows: Rows<T>,
    headers: impl Fn(bool) -> Vec<&'static str>,
    lines: impl Fn(&T, bool) -> Vec<Vec<String>>,
) -> Result<Exit, Stop> {
    let items: Vec<Value> = rows.iter().map(|(name, result)| item(name, result)).collect();
    // A table of headings alone says nothing: the failures do.
    if !globals.format.is_for_people() || rows.iter().any(|(_, r)| r.is_ok()) {
        globals.print(&items, |wide| {
            let mut all = vec!["NAME"];
            all.extend(headers(wide));
            let mut table = Table::new(all);
            for (name, result) in &rows {
                for line in result.as_ref().map(|value| lines(value, wide)).unwrap_or_default() {
                    table.row(std::iter::once(name.clone()).chain(line));
                }
            }
            table
        })?;
    }
    end(rows)
}

/// The exit code of a look, with what went wrong.
pub fn end<T>(rows: Rows<T>) -> Result<Exit, Stop> {
    let exit = Exit::combine(rows.iter().map(|(_, r)| r.as_ref().err().map_or(Exit::Done, |f| Exit::of(f.cause))));
    let failures: Vec<Failure> = rows.into_iter().filter_map(|(_, r)| r.err()).collect();
    if failures.is_empty() { Ok(exit) } else { Err(Stop { exit, failures }) }
}

/// `-` is nothing.
pub fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}

pub fn yes_no(value: Option<bool>) -> String {
    value.map_or("-", |v| if v { "yes" } else { "no" }).to_owned()
}

/// In the decimal units that makers of drives use.
pub fn size(bytes: Option<u64>) -> String {
    match bytes {
        None => "-".to_owned(),
        Some(bytes) if bytes >= 1_000_000_000_000 => format!("{:.2} TB", bytes as f64 / 1e12),
        Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
