//! One look over a selection: side by side, a log-in a machine, shown in every format.

use std::{pin::Pin, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bmc,
    cli::{
        args::Targets,
        globals::Globals,
        interrupt, looks, seen,
        session::{Session, block_on_alone},
        targets::{self, Nothing},
    },
    model::Failure,
    output::{Exit, Stop, Table, stdout},
};

pub use looks::{Rows, end};

/// For each call to a BMC. A log of thousands of entries takes a slow one minutes.
pub const LOOK: Duration = Duration::from_secs(180);

pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Names of a selection, with a session that stands in their networks.
pub fn chosen(globals: &Globals, targets: &Targets) -> Result<(Session, Vec<String>), Stop> {
    let session = Session::to_look(globals)?;
    let status = seen::status_for(globals, &session.fleet, targets)?;
    let names = targets::nodes(&session.fleet, &status, targets, Nothing::IsRefused)?;
    session.enter(&names)?;
    Ok((session, names))
}

/// Asks every machine of a selection.
pub fn over<T>(
    globals: &Globals,
    targets: &Targets,
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a, T>,
) -> Result<Rows<T>, Stop> {
    let (session, names) = chosen(globals, targets)?;
    over_these(&session, &names, operation)
}

/// Logs in, asks, logs out; so many machines side by side as `--concurrency` says.
pub fn over_these<T>(
    session: &Session,
    names: &[String],
    operation: impl for<'a> Fn(&'a bmc::Client) -> Doing<'a, T>,
) -> Result<Rows<T>, Stop> {
    let operation = &operation;
    block_on_alone(async {
        let passwords = session.passwords(names).await?;
        let ear = interrupt::looks()?;
        let stopped = ear.told();
        let look = async |name: &str| {
            let node = session.node(name)?;
            let ask = async |client: &bmc::Client| {
                let said = operation(client).await?;
                // What is not among what is shown, and is there all the same.
                client.unread().iter().for_each(|line| stdout::note(&format!("{name}: not read: {line}")));
                Ok(said)
            };
            session.look(node, &passwords, LOOK, &stopped, ask).await
        };
        Ok(looks::each(names, session.concurrency, look).await)
    })
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
