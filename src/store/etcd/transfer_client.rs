//! The whole content out, at one revision; and into an empty store.
//!
//! An import is more than one transaction. It begins by writing the key `importing`, with which no other write goes
//! through, and its last transaction writes head, lineage and fences and takes that key away. One that was broken off
//! is begun again from the start: by the same command.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{
    approval_name,
    blob::TXN_MAX_BYTES,
    core_client::{Core, from_json, importing, moved_place, to_json},
    journal_client::{groups, lines, records},
    keys::Kind,
    shelf_client::Pieces,
    table::{Slot, Table},
};
use crate::{
    etcd::request::{Compare, Op, Span, Transaction},
    etcd::wire::KeyValue,
    model::{Failure, failure::Cause},
    store::{
        Approval, EXPORT_VERSION, Export, Head, Lineage, RunRecord, SCHEMA_VERSION, StoreError, all_free, moved_to,
        parts,
    },
};

/// Operations of one step of an import, with its compare and its reads under etcd's limit.
const STEP_OPS: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub schema: u32,
    pub id: Uuid,
    /// What the number of writes is added to: an import goes on where the export stood.
    pub base: i64,
}

impl Core {
    /// Makes the store if there is none; refuses one that this version cannot keep. Tells whether an import into it
    /// is under way, or was broken off.
    pub(super) async fn open(&self) -> Result<bool, StoreError> {
        const WHAT: &str = "open";
        let fresh = Meta { schema: SCHEMA_VERSION, id: Uuid::new_v4(), base: 0 };
        let key = self.keys.meta();
        let reads = vec![Op::Get { key: key.clone() }, Op::Get { key: self.keys.importing() }];
        let make = Transaction {
            compare: vec![Compare::Changed { key: key.clone(), at: 0 }],
            success: vec![Op::put(key, to_json(&fresh)?)],
            failure: vec![],
        };
        let mut found = self.look(WHAT, reads.clone()).await?;
        if found[0].is_empty() && found[1].is_empty() {
            self.send(WHAT, make).await?;
            found = self.look(WHAT, reads).await?;
        }
        let meta: Meta = found[0].first().map_or_else(|| Err(gone()), |kv| from_json(&kv.value))?;
        if meta.schema != SCHEMA_VERSION {
            let why = format!("it has schema {}, this rackctl keeps {SCHEMA_VERSION}", meta.schema);
            let failure = Failure::new(Cause::Guard, "etcd store: open", why);
            return Err(StoreError::Failed(failure.next("use the version that wrote it")));
        }
        Ok(found[1].first().is_some_and(|kv| moved_place(&kv.value).is_none()))
    }

    pub(super) async fn lineage(&self) -> Result<Lineage, StoreError> {
        let reads = vec![Op::Get { key: self.keys.meta() }, Op::Get { key: self.keys.serial() }];
        let found = self.look("read its lineage", reads).await?;
        let meta: Meta = found[0].first().map_or_else(|| Err(gone()), |kv| from_json(&kv.value))?;
        Ok(lineage(&meta, found[1].first()))
    }

    pub(super) async fn export(&self) -> Result<Export, StoreError> {
        const WHAT: &str = "export";
        let (found, _) = self.scan(WHAT, Span::prefix(&self.keys.all())).await?;
        let all: BTreeMap<Vec<u8>, KeyValue> = found.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        if all.get(&self.keys.importing()).is_some_and(|mark| moved_place(&mark.value).is_none()) {
            return Err(importing());
        }
        let one = |key: Vec<u8>| all.get(&key);
        let meta: Meta = one(self.keys.meta()).map_or_else(|| Err(gone()), |kv| from_json(&kv.value))?;
        let table: Table = one(self.keys.locks()).map_or_else(|| Ok(Table::default()), |kv| from_json(&kv.value))?;
        let mut pieces = Pieces::new();
        let start = self.keys.chunk("");
        for (key, kv) in &all {
            if let Some(name) = self.keys.rest(&start, key) {
                pieces.insert(name.to_owned(), kv.value.clone());
            }
        }
        let mut chain = Vec::new();
        for kv in below(&all, &self.keys.journal()) {
            chain.extend(records(&self.unpacked_with(WHAT, kv.value.clone(), &mut pieces).await?)?);
        }
        let mut runs = Vec::new();
        let (mut contents, mut names) = (BTreeMap::new(), BTreeMap::new());
        for mut run in self.values::<RunRecord>(&all, Kind::Run, &mut pieces).await?.into_values() {
            for part in [&mut run.fleet, &mut run.plan] {
                let list = part.as_str().unwrap_or_default().to_owned();
                if !names.contains_key(&list) {
                    let text = self.unpacked_with(WHAT, list.clone().into_bytes(), &mut pieces).await?;
                    let text = String::from_utf8_lossy(&text).into_owned();
                    names.insert(list.clone(), parts::name(&text));
                    contents.insert(parts::name(&text), text);
                }
                *part = names.get(&list).cloned().unwrap_or_default().into();
            }
            runs.push(run);
        }
        Ok(Export {
            schema: EXPORT_VERSION,
            lineage: lineage(&meta, one(self.keys.serial())),
            head: one(self.keys.head()).map_or_else(|| Ok(Head::default()), |kv| from_json(&kv.value))?,
            runs,
            contents,
            records: chain,
            fences: table.names.iter().map(|(name, slot)| (name.clone(), slot.fence)).collect(),
            nodes: self.values(&all, Kind::Node, &mut pieces).await?,
            clusters: self.values(&all, Kind::Cluster, &mut pieces).await?,
            bmc_sessions: self.values(&all, Kind::Session, &mut pieces).await?.into_values().collect(),
            observed: self.values(&all, Kind::Observed, &mut pieces).await?,
            controls: self.values(&all, Kind::Control, &mut pieces).await?,
            approvals: self.values::<Approval>(&all, Kind::Approval, &mut pieces).await?.into_values().collect(),
        })
    }

    async fn values<T: DeserializeOwned>(
        &self,
        all: &BTreeMap<Vec<u8>, KeyValue>,
        kind: Kind,
        pieces: &mut Pieces,
    ) -> Result<BTreeMap<String, T>, StoreError> {
        let start = self.keys.kind(kind);
        let mut values = BTreeMap::new();
        for kv in below(all, &start) {
            let Some(name) = self.keys.rest(&start, &kv.key) else { continue };
            values.insert(name.to_owned(), from_json(&self.unpacked_with("export", kv.value.clone(), pieces).await?)?);
        }
        Ok(values)
    }

    pub(super) async fn import(&self, export: &Export) -> Result<(), StoreError> {
        const WHAT: &str = "import";
        export.check()?;
        // Nothing of this process's is based on what was read before.
        *self.seen.lock().await = None;
        let mark = self.begin_import().await?;
        for step in steps(self.import_ops(export).await?) {
            self.import_step(step, mark).await?;
        }
        let keys = &self.keys;
        let found = self.look(WHAT, vec![Op::Get { key: keys.serial() }]).await?;
        let count = found[0].first().map_or(0, |kv| kv.version as i64);
        // One more than the export's, once this transaction has counted itself.
        let base = export.lineage.serial as i64 - count;
        let meta = Meta { schema: SCHEMA_VERSION, id: export.lineage.id, base };
        let names = export.fences.iter().map(|(name, fence)| (name.clone(), Slot { fence: *fence, hold: 0 }));
        let table = Table { names: names.collect(), ..Table::default() };
        let own = to_json(&meta)?;
        let mut last = vec![
            Op::put(keys.meta(), own.clone()),
            Op::put(keys.locks(), to_json(&table)?),
            Op::put(keys.serial(), Vec::new()),
            Op::Delete { key: keys.importing() },
        ];
        if export.head.seq > 0 {
            last.push(Op::put(keys.head(), to_json(&export.head)?));
        }
        let compare = [(keys.importing(), mark), (keys.locks(), 0), (keys.head(), 0)];
        let compare = compare.map(|(key, at)| Compare::Changed { key, at }).into();
        let failure = vec![Op::Get { key: keys.importing() }, Op::Get { key: keys.meta() }];
        let answer = self.send(WHAT, Transaction { compare, success: last, failure }).await?;
        // An earlier try may have come through: then the mark is gone, and the lineage is the export's.
        let found: Vec<_> = answer.value.responses.iter().filter_map(|r| r.response_range.as_ref()).collect();
        let done = found.len() == 2 && found[0].kvs.is_empty() && found[1].kvs.iter().any(|kv| kv.value == own);
        if answer.value.succeeded || answer.repeated && done { Ok(()) } else { Err(overtaken()) }
    }

    pub(super) async fn replace(
        &self,
        export: &Export,
        mut keep: impl FnMut(&[u8]) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "replace";
        export.check()?;
        *self.seen.lock().await = None;
        let keys = &self.keys;
        if let Some(place) = self.moved().await? {
            return Err(moved_to(&place));
        }
        // A table that cannot be read keeps nobody away.
        if let Ok(locks) = self.locks().await {
            all_free(locks)?;
        }
        let now = self.look(WHAT, vec![Op::Get { key: keys.locks() }, Op::Get { key: keys.importing() }]).await?;
        let at = |found: &[KeyValue]| found.first().map_or(0, |kv| kv.mod_revision);
        let compare = [(keys.locks(), at(&now[0])), (keys.importing(), at(&now[1]))];
        let mine = format!("replace {}", Uuid::new_v4()).into_bytes();
        let begin = Transaction {
            compare: compare.map(|(key, at)| Compare::Changed { key, at }).into(),
            success: vec![Op::put(keys.importing(), mine.clone())],
            failure: vec![],
        };
        self.send(WHAT, begin).await?;
        let now = self.look(WHAT, vec![Op::Get { key: keys.importing() }]).await?;
        let Some(mark) = now[0].first().filter(|kv| kv.value == mine).map(|kv| kv.mod_revision) else {
            return Err(overtaken());
        };
        for kv in self.scan(WHAT, Span::prefix(&keys.all())).await?.0 {
            let [key, value] = [&kv.key, &kv.value].map(|bytes| BASE64_STANDARD.encode(bytes));
            keep(format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}\n").as_bytes())?;
        }
        keep(b"")?;
        // The rest goes when the import begins, as what one that was broken off left.
        let clear = [keys.locks(), keys.head(), keys.serial()].map(|key| Op::Delete { key });
        let clear = clear.into_iter().chain([keys.lives(), keys.renewals()].map(|prefix| Op::DeletePrefix { prefix }));
        self.import_step(clear.collect(), mark).await?;
        self.import(export).await
    }

    /// Gives the revision of the key that keeps others away.
    async fn begin_import(&self) -> Result<u64, StoreError> {
        const WHAT: &str = "import";
        let keys = &self.keys;
        let mine = Uuid::new_v4().to_string();
        let (found, _) = self.scan(WHAT, Span { keys_only: true, ..Span::prefix(&keys.all()) }).await?;
        if let Some(place) = self.moved().await? {
            return Err(moved_to(&place));
        }
        let broken_off = found.iter().find(|kv| kv.key == keys.importing()).map(|kv| kv.mod_revision);
        let used = found.iter().any(|kv| ![keys.meta(), keys.serial(), keys.importing()].contains(&kv.key));
        let conflict = || StoreError::Conflict("the store is not empty: an import would mix two histories".to_owned());
        if used && broken_off.is_none() {
            return Err(conflict());
        }
        let compare = [(keys.importing(), broken_off.unwrap_or(0)), (keys.head(), 0), (keys.locks(), 0)];
        let begin = Transaction {
            compare: compare.map(|(key, at)| Compare::Changed { key, at }).into(),
            success: vec![Op::put(keys.importing(), mine.as_bytes().to_vec())],
            failure: vec![],
        };
        self.send(WHAT, begin).await?;
        let now = self.look(WHAT, vec![Op::Get { key: keys.importing() }]).await?;
        let Some(mark) = now[0].first().filter(|kv| kv.value == mine.as_bytes()).map(|kv| kv.mod_revision) else {
            return Err(conflict());
        };
        // What an import that was broken off left.
        let mut clear: Vec<Op> = Kind::ALL.iter().map(|kind| Op::DeletePrefix { prefix: keys.kind(*kind) }).collect();
        clear.extend([keys.journal(), keys.by_runs(), keys.chunk("")].map(|prefix| Op::DeletePrefix { prefix }));
        if used {
            self.import_step(clear, mark).await?;
        }
        Ok(mark)
    }

    /// One step of many. It may be carried out twice, for the mark stands after it as before.
    async fn import_step(&self, ops: Vec<Op>, mark: u64) -> Result<(), StoreError> {
        let compare = vec![Compare::Changed { key: self.keys.importing(), at: mark }];
        let answer = self.send("import", Transaction { compare, success: ops, failure: vec![] }).await?;
        if answer.value.succeeded { Ok(()) } else { Err(overtaken()) }
    }

    /// Everything but what the last step writes.
    async fn import_ops(&self, export: &Export) -> Result<Vec<Op>, StoreError> {
        const WHAT: &str = "import";
        let keys = &self.keys;
        let mut ops = Vec::new();
        for (from, to) in groups(&export.records)? {
            let some = &export.records[from..to];
            let (run, seq) = (&some[0].run, some[0].seq);
            ops.push(Op::put(keys.record(seq), self.packed(WHAT, lines(some)?, false).await?));
            ops.push(Op::put(keys.by_run(run, seq), b"import".to_vec()));
        }
        let mut named: Vec<(Kind, String, Vec<u8>)> = Vec::new();
        let mut lists = BTreeMap::new();
        for run in &export.runs {
            let kept = self.stored_run(WHAT, run, &export.contents, &mut lists).await?;
            named.push((Kind::Run, run.id.clone(), kept));
        }
        for (name, value) in &export.nodes {
            named.push((Kind::Node, name.clone(), to_json(value)?));
        }
        for (name, value) in &export.clusters {
            named.push((Kind::Cluster, name.clone(), to_json(value)?));
        }
        for session in &export.bmc_sessions {
            named.push((Kind::Session, session.name(), to_json(session)?));
        }
        for (name, value) in &export.observed {
            named.push((Kind::Observed, name.clone(), to_json(value)?));
        }
        for (name, value) in &export.controls {
            named.push((Kind::Control, name.clone(), to_json(value)?));
        }
        for approval in &export.approvals {
            named.push((Kind::Approval, approval_name(approval), to_json(approval)?));
        }
        for (kind, name, value) in named {
            ops.push(Op::put(keys.named(kind, &name), self.packed(WHAT, value, false).await?));
        }
        Ok(ops)
    }
}

fn lineage(meta: &Meta, serial: Option<&KeyValue>) -> Lineage {
    let count = serial.map_or(0, |kv| kv.version as i64);
    Lineage { id: meta.id, serial: u64::try_from(meta.base + count).unwrap_or(0) }
}

fn overtaken() -> StoreError {
    StoreError::Conflict("another import into this store was begun meanwhile".to_owned())
}

fn gone() -> StoreError {
    let why = "its `meta` key is gone: it was deleted under this process";
    StoreError::Failed(Failure::new(Cause::Malformed, "etcd store: read", why).next("rackctl state rebuild"))
}

fn below<'a>(all: &'a BTreeMap<Vec<u8>, KeyValue>, prefix: &'a [u8]) -> impl Iterator<Item = &'a KeyValue> {
    all.range(prefix.to_vec()..).map(|(_, kv)| kv).take_while(move |kv| kv.key.starts_with(prefix))
}

/// In order, each small enough for one transaction.
fn steps(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut steps: Vec<Vec<Op>> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let size = op.bytes();
        match steps.last_mut() {
            Some(step) if step.len() < STEP_OPS && bytes + size <= TXN_MAX_BYTES => {
                bytes += size;
                step.push(op);
            }
            _ => {
                bytes = size;
                steps.push(vec![op]);
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fit_into_a_transaction() {
        let small = |n: usize| (0..n).map(|i| Op::put(vec![1], vec![i as u8])).collect::<Vec<_>>();
        assert_eq!(steps(small(250)).iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let large = vec![Op::put(vec![1], vec![0; TXN_MAX_BYTES / 2 + 1]); 3];
        assert_eq!(steps(large).len(), 3);
        assert!(steps(vec![]).is_empty());
    }

    #[test]
    fn a_serial_goes_on_where_the_export_stood() {
        let serial = KeyValue { version: 3, ..KeyValue::default() };
        let meta = Meta { schema: 2, id: Uuid::nil(), base: -1 };
        assert_eq!(lineage(&meta, Some(&serial)).serial, 2);
        assert_eq!(lineage(&meta, None).serial, 0);
    }
}
