//! Locks: all or none, each with a fence that is never given twice.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::{
    failed, from_json,
    journal::{self, State},
    shelf::{self, Kind},
    to_json,
};
use crate::{
    model::Stamp,
    store::{Claim, Draft, Fence, Lock, RecordKind, StoreError, fenced, stolen},
};

/// By what right locks are taken.
pub(super) enum By<'a> {
    /// Free ones, our own, and those of dead processes of this host.
    Right,
    /// By order of a person.
    Order { force: bool, reason: &'a str },
}

pub(super) fn take(
    connection: &Connection,
    names: &[String],
    claim: &Claim<'_>,
    by: &By<'_>,
) -> Result<Fence, StoreError> {
    let names: Vec<&String> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let held = of(connection, &names)?;
    for lock in &held {
        let alive = lock.as_ref().is_some_and(|l| l.holder.alive());
        match by {
            By::Right => claim.may_take(lock.as_ref(), alive)?,
            By::Order { force, .. } => claim.may_steal(lock.as_ref(), alive, *force)?,
        }
    }
    let given: BTreeMap<String, u64> = shelf::all(connection, Kind::Fence)?.into_iter().collect();
    let mut fences = Vec::new();
    let mut locks = Vec::new();
    for name in names {
        // Fences outlive locks: a number is never given twice.
        let fence = given.get(name).unwrap_or(&0) + 1;
        fences.push((name.clone(), Some(to_json(&fence)?)));
        locks.push(claim.lock(name, fence));
    }
    shelf::change(connection, Kind::Fence, &fences)?;
    put(connection, &locks)?;
    hands(connection)?;
    let given = locks.iter().map(|l| (l.name.clone(), l.fence)).collect();
    let fence = Fence { locks: given, actor: claim.holder.to_string() };
    if let By::Order { force, reason } = by {
        for (from, to) in held.iter().zip(&locks) {
            let Some(from) = from.as_ref().filter(|from| from.holder != *claim.holder) else { continue };
            let draft = Draft {
                subject: from.name.clone(),
                step: "lock".to_owned(),
                attempt: 1,
                kind: RecordKind::LockStolen,
                body: stolen(from, to, reason, *force),
            };
            let State { head, .. } = journal::state(connection)?;
            journal::write(connection, &head, claim.run, claim.now.unix_ms, &fence, draft)?;
        }
    }
    Ok(fence)
}

/// `Fenced` unless every lock is the one that the fence was given for. One query, however many there are.
pub(super) fn in_force(connection: &Connection, fence: &Fence) -> Result<Vec<Lock>, StoreError> {
    let held = of(connection, &fence.locks.iter().map(|(name, _)| name).collect::<Vec<_>>())?;
    fence
        .locks
        .iter()
        .zip(held)
        .map(|((name, number), held)| match held {
            Some(lock) if lock.fence == *number => Ok(lock),
            other => Err(fenced(name, *number, other.as_ref())),
        })
        .collect()
}

pub(super) fn renew(connection: &Connection, fence: &Fence, now: &Stamp) -> Result<(), StoreError> {
    let mut locks = in_force(connection, fence)?;
    for lock in &mut locks {
        lock.renewed = now.clone();
    }
    put(connection, &locks)
}

pub(super) fn release(connection: &Connection, fence: &Fence) -> Result<(), StoreError> {
    let held = of(connection, &fence.locks.iter().map(|(name, _)| name).collect::<Vec<_>>())?;
    let ours: Vec<(String, Option<String>)> = fence
        .locks
        .iter()
        .zip(held)
        .filter(|((_, number), held)| held.as_ref().is_some_and(|lock| lock.fence == *number))
        .map(|((name, _), _)| (name.clone(), None))
        .collect();
    shelf::change(connection, Kind::Lock, &ours)?;
    hands(connection)
}

pub(super) fn all(connection: &Connection, now: &Stamp) -> Result<Vec<Lock>, StoreError> {
    let locks: Vec<(String, Lock)> = shelf::all(connection, Kind::Lock)?;
    Ok(locks
        .into_iter()
        .map(|(_, lock)| {
            let alive = lock.holder.alive();
            lock.seen(alive, now)
        })
        .collect())
}

fn put(connection: &Connection, locks: &[Lock]) -> Result<(), StoreError> {
    let changes: Result<Vec<_>, StoreError> =
        locks.iter().map(|lock| Ok((lock.name.clone(), Some(to_json(lock)?)))).collect();
    shelf::change(connection, Kind::Lock, &changes?)
}

/// A lock changed hands: what was known of fences is to be looked at again.
fn hands(connection: &Connection) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE state SET hands = hands + 1")
        .and_then(|mut s| s.execute([]))
        .map_err(failed("lock"))?;
    Ok(())
}

/// The locks of these names, in their order.
fn of(connection: &Connection, names: &[&String]) -> Result<Vec<Option<Lock>>, StoreError> {
    let read = failed("read locks");
    let mut statement = connection
        .prepare_cached(
            "SELECT shelf.body FROM json_each(?1) AS wanted
             LEFT JOIN shelf ON shelf.kind = 'lock' AND shelf.name = wanted.value ORDER BY wanted.key",
        )
        .map_err(&read)?;
    let rows = statement.query_map([to_json(&names)?], |row| row.get::<_, Option<String>>(0)).map_err(&read)?;
    rows.map(|row| row.map_err(&read)?.as_deref().map(from_json).transpose()).collect()
}
