//! The outline of a state file. It is derived: whatever does not fit is made again from what it is derived of, and
//! nothing but views asks it.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::{
    failed, journal,
    shelf::{self, Kind},
    to_json,
};
use crate::store::{
    Head, RunHead, RunRecord, StoreError,
    outline::{Standing, Standings, fold, newest_first},
};

/// Under which the shelf keeps how far the standings go: no subject has this name.
const MARK: &str = "";

/// With a run that is written.
pub(super) fn note_run(connection: &Connection, run: &RunRecord) -> Result<(), StoreError> {
    shelf::put(connection, Kind::RunHead, &run.id, &RunHead::from(run))
}

/// Newest first; `None`: they are not those of the runs, or damaged.
pub(super) fn heads(connection: &Connection) -> Result<Option<Vec<RunHead>>, StoreError> {
    let Ok(heads) = shelf::all::<RunHead>(connection, Kind::RunHead) else { return Ok(None) };
    let names: BTreeSet<String> = shelf::names(connection, Kind::Run)?.into_iter().collect();
    if names.len() != heads.len() || !heads.iter().all(|(name, _)| names.contains(name)) {
        return Ok(None);
    }
    let mut heads: Vec<RunHead> = heads.into_iter().map(|(_, head)| head).collect();
    newest_first(&mut heads);
    Ok(Some(heads))
}

/// Made again from the runs.
pub(super) fn keep_heads(connection: &Connection, runs: &[RunRecord]) -> Result<(), StoreError> {
    shelf::clear(connection, Kind::RunHead)?;
    runs.iter().try_for_each(|run| note_run(connection, run))
}

/// Standings, and what of them has to be written so that they are kept.
pub(super) struct Found {
    pub standings: Standings,
    changed: Option<(Vec<String>, Head)>,
    /// Nothing that was kept fits: all of it goes.
    anew: bool,
}

impl Found {
    pub(super) fn is_news(&self) -> bool {
        self.changed.is_some()
    }
}

/// The kept ones, and every record since folded in.
pub(super) fn standings(connection: &Connection) -> Result<Found, StoreError> {
    let head = journal::state(connection)?.head;
    let (mut standings, mark, anew) = match kept(connection, &head)? {
        Some((standings, mark)) => (standings, mark, false),
        None => (Standings::new(), Head::default(), true),
    };
    if mark == head {
        return Ok(Found { standings, changed: None, anew: false });
    }
    let records = journal::after(connection, &mark)?;
    let changed = fold(&mut standings, &records);
    Ok(Found { standings, changed: Some((changed, head)), anew })
}

/// `None`: nothing is kept, or not of this journal.
fn kept(connection: &Connection, head: &Head) -> Result<Option<(Standings, Head)>, StoreError> {
    let mut mark: Option<Head> = None;
    let (mut standings, mut whole) = (Standings::new(), true);
    let rows = shelf::each(connection, Kind::Standing, |name, body| {
        if name == MARK {
            mark = serde_json::from_str(body).ok();
        } else if let Ok(standing) = serde_json::from_str::<Standing>(body) {
            standings.insert(name.to_owned(), standing);
        } else {
            whole = false;
        }
        Ok(())
    });
    if rows.is_err() || !whole {
        return Ok(None);
    }
    let Some(mark) = mark.filter(|m| m.seq <= head.seq) else { return Ok(None) };
    match journal::hash_at(connection, mark.seq)? {
        Some(hash) if hash == mark.hash => Ok(Some((standings, mark))),
        _ => Ok(None),
    }
}

/// Unless another process has kept more meanwhile.
pub(super) fn keep(connection: &Connection, found: &Found) -> Result<(), StoreError> {
    let Some((changed, head)) = &found.changed else { return Ok(()) };
    let mark: Option<String> = connection
        .prepare_cached("SELECT body FROM shelf WHERE kind = 'standing' AND name = ''")
        .and_then(|mut s| s.query_row([], |row| row.get(0)).optional())
        .map_err(failed("keep the outline"))?;
    let mark: Option<Head> = mark.and_then(|text| serde_json::from_str(&text).ok());
    if found.anew {
        shelf::clear(connection, Kind::Standing)?;
    } else if mark.is_none_or(|mark| mark.seq >= head.seq) {
        return Ok(());
    }
    let mut rows = vec![(MARK.to_owned(), Some(to_json(head)?))];
    for subject in changed {
        rows.push((subject.clone(), found.standings.get(subject).map(to_json).transpose()?));
    }
    shelf::change(connection, Kind::Standing, &rows)
}
