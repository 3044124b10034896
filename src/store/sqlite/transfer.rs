//! The whole content out, and into an empty store.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    contents, failed, journal,
    shelf::{self, Kind},
    to_json,
};
use crate::store::{self, EXPORT_VERSION, Export, RunRecord, StoreError, parts};

pub(super) fn export(connection: &Connection) -> Result<Export, StoreError> {
    fn named<T: DeserializeOwned>(connection: &Connection, kind: Kind) -> Result<BTreeMap<String, T>, StoreError> {
        Ok(shelf::all(connection, kind)?.into_iter().collect())
    }
    fn values<T: DeserializeOwned>(connection: &Connection, kind: Kind) -> Result<Vec<T>, StoreError> {
        Ok(shelf::all(connection, kind)?.into_iter().map(|(_, value)| value).collect())
    }
    let state = journal::state(connection)?;
    let runs: Vec<RunRecord> = values(connection, Kind::Run)?;
    let wanted: BTreeSet<&str> = runs.iter().flat_map(|run| [&run.fleet, &run.plan]).filter_map(parts::named).collect();
    let contents = wanted
        .into_iter()
        .map(|name| Ok((name.to_owned(), contents::get(connection, name)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Export {
        schema: EXPORT_VERSION,
        lineage: state.lineage,
        head: state.head,
        runs,
        contents,
        records: journal::chain(connection)?,
        fences: named(connection, Kind::Fence)?,
        nodes: named(connection, Kind::Node)?,
        clusters: named(connection, Kind::Cluster)?,
        bmc_sessions: values(connection, Kind::BmcSession)?,
        observed: named(connection, Kind::Observed)?,
        controls: named(connection, Kind::Control)?,
        approvals: values(connection, Kind::Approval)?,
    })
}

pub(super) fn import(connection: &Connection, export: &Export) -> Result<(), StoreError> {
    fn keep<'a, T: Serialize + 'a>(
        connection: &Connection,
        kind: Kind,
        all: impl Iterator<Item = (String, &'a T)>,
    ) -> Result<(), StoreError> {
        let changes: Result<Vec<_>, StoreError> = all.map(|(name, value)| Ok((name, Some(to_json(value)?)))).collect();
        shelf::change(connection, kind, &changes?)
    }
    fn owned<T>(map: &BTreeMap<String, T>) -> impl Iterator<Item = (String, &T)> {
        map.iter().map(|(name, value)| (name.clone(), value))
    }
    export.check()?;
    let state = journal::state(connection)?;
    let mut empty = state.head.seq == 0;
    for kind in Kind::ALL {
        empty &= shelf::all::<serde_json::Value>(connection, kind)?.is_empty();
    }
    if !empty {
        return Err(store::not_empty());
    }
    journal::insert_all(connection, &export.records)?;
    journal::set_head(connection, &export.head)?;
    connection
        .execute(
            "UPDATE state SET lineage = ?1, serial = ?2",
            params![export.lineage.id.to_string(), export.lineage.serial as i64],
        )
        .map_err(failed("import"))?;
    let mut done = BTreeSet::new();
    let mut runs = Vec::new();
    for run in &export.runs {
        let (kept, parts) = parts::apart(run, &export.contents)?;
        for (name, text) in parts {
            if done.insert(name.clone()) {
                contents::put(connection, &name, &text)?;
            }
        }
        runs.push(kept);
    }
    keep(connection, Kind::Run, runs.iter().map(|r| (r.id.clone(), r)))?;
    keep(connection, Kind::Fence, owned(&export.fences))?;
    keep(connection, Kind::Node, owned(&export.nodes))?;
    keep(connection, Kind::Cluster, owned(&export.clusters))?;
    keep(connection, Kind::BmcSession, export.bmc_sessions.iter().map(|s| (s.name(), s)))?;
    keep(connection, Kind::Observed, owned(&export.observed))?;
    keep(connection, Kind::Control, owned(&export.controls))?;
    keep(connection, Kind::Approval, export.approvals.iter().map(|a| (a.name(), a)))
}
