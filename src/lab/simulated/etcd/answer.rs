//! One question to one member, and its answer. Pure: what must wait says so, and is asked again.

use serde_json::{Value, json};

use super::{
    keys::Op,
    refusal::Refusal,
    requests::{self, flag, long, number, set, text},
    state::{Info, State},
    world::{Me, World},
};

/// As etcd says it of itself.
pub const VERSION: &str = "3.4.23";
const CLUSTER_VERSION: &str = "3.4.0";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Json {
        status: u16,
        body: Value,
    },
    NotFound,
    /// No quorum or no leader now. If that lasts for [`super::Timing::request_ms`], this is what is said.
    Wait(Box<Answer>),
    /// No member runs there: the connection breaks.
    Gone,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer::Json { status: refusal.status(), body: refusal.body() }
    }
}

fn ok(body: Value) -> Answer {
    Answer::Json { status: 200, body }
}

/// Only a learner that is asked for its own status or state, and its health, answers.
const FOR_LEARNERS: [&str; 3] = ["/health", "/version", "/v3/maintenance/status"];
/// Answered by the member alone.
const WITHOUT_QUORUM: [&str; 7] = [
    "/health",
    "/version",
    "/v3/maintenance/status",
    "/v3/maintenance/transfer-leadership",
    "/v3/cluster/member/list",
    "/v3/cluster/member/add",
    "/v3/cluster/member/promote",
];

impl World {
    /// `path` as in the URL, `body` as it came.
    pub fn answer(&mut self, now: u64, node: &str, path: &str, body: &[u8]) -> Answer {
        self.tick(now);
        let Some(me) = self.me(node) else { return Answer::Gone };
        let body: Value = match body {
            [] => json!({}),
            bytes => match serde_json::from_slice(bytes) {
                Ok(value) => value,
                Err(e) => return Refusal::malformed(e.to_string()).into(),
            },
        };
        let local = path == "/v3/kv/range" && flag(&body, "serializable");
        if self.is_learner(&me) && !local && !FOR_LEARNERS.contains(&path) {
            return Refusal::not_for_learners().into();
        }
        if self.leader_of(&me).is_none() && !local && !WITHOUT_QUORUM.contains(&path) {
            let at_last = match path {
                "/v3/kv/range" => Refusal::timed_out(),
                _ => Refusal::deadline(),
            };
            return Answer::Wait(Box::new(at_last.into()));
        }
        let answered = self.call(now, &me, path, &body);
        self.tick(now);
        answered.unwrap_or_else(Answer::from)
    }

    fn call(&mut self, now: u64, me: &Me, path: &str, body: &Value) -> Result<Answer, Refusal> {
        Ok(match path {
            "/health" => self.health(me),
            "/version" => ok(json!({ "etcdserver": VERSION, "etcdcluster": CLUSTER_VERSION })),
            "/v3/maintenance/status" => ok(self.status(me)),
            "/v3/maintenance/alarm" => ok(self.alarm(now, me, body)?),
            "/v3/maintenance/transfer-leadership" => {
                self.transfer(me, number(body, "targetID")?)?;
                ok(json!({ "header": self.header(me, true) }))
            }
            "/v3/cluster/member/list" => ok(self.members(me, None)),
            "/v3/cluster/member/add" => {
                let urls = body.get("peerURLs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let urls: Vec<String> = urls.iter().filter_map(Value::as_str).map(str::to_string).collect();
                let id = self.add(now, me, &urls, flag(body, "isLearner"))?;
                ok(self.members(me, Some(id)))
            }
            "/v3/cluster/member/promote" => {
                self.promote(now, me, number(body, "ID")?)?;
                ok(self.members(me, None))
            }
            "/v3/cluster/member/remove" => {
                self.remove(now, me, number(body, "ID")?)?;
                ok(self.members(me, None))
            }
            "/v3/kv/range" => {
                let op = requests::range(body)?;
                let done = match (&op, self.state(&me.at)) {
                    (Op::Range { span, .. }, _) if span.key.is_empty() => return Err(Refusal::no_key()),
                    (Op::Range { span, limit, count_only, keys_only }, Some(state)) => {
                        state.keys.range(span, *limit, *count_only, *keys_only)
                    }
                    _ => return Ok(Answer::Gone),
                };
                ok(requests::done(self.header(me, true), &done))
            }
            "/v3/kv/put" => self.write(now, me, &requests::put(body)?)?,
            "/v3/kv/deleterange" => self.write(now, me, &requests::delete(body)?)?,
            "/v3/kv/txn" => {
                let (holds, all) = self.txn(now, me, &requests::txn(body)?)?;
                let revision = self.state(&me.at).map_or(0, |s| s.keys.revision);
                ok(requests::txn_answer(self.header(me, true), revision, holds, &all))
            }
            "/v3/lease/grant"
            | "/v3/lease/revoke"
            | "/v3/kv/lease/revoke"
            | "/v3/lease/keepalive"
            | "/v3/lease/timetolive"
            | "/v3/kv/lease/timetolive" => self.lease(now, me, path, body)?,
            _ => Answer::NotFound,
        })
    }

    fn write(&mut self, now: u64, me: &Me, op: &Op) -> Result<Answer, Refusal> {
        let done = self.apply(now, me, op)?;
        Ok(ok(requests::done(self.header(me, true), &done)))
    }

    fn lease(&mut self, now: u64, me: &Me, path: &str, body: &Value) -> Result<Answer, Refusal> {
        let (id, ttl) = (number(body, "ID")?, number(body, "TTL")?);
        if path.ends_with("grant") {
            if ttl == 0 {
                return Err(Refusal::malformed("etcdserver: too small lease TTL"));
            }
            let index = self.state(&me.at).map_or(0, |s| s.index);
            // Never 0, never the same twice in a cluster.
            let id = if id == 0 { (me.cluster >> 2 << 1 ^ index << 1) | 1 } else { id };
            self.commit(now, me.cluster, |state| state.keys.grant(id, ttl, now))?;
            return Ok(ok(json!({ "header": self.header(me, true), "ID": long(id), "TTL": long(ttl) })));
        }
        if path.ends_with("revoke") {
            self.commit(now, me.cluster, |state| state.keys.revoke(id))?;
            return Ok(ok(json!({ "header": self.header(me, true) })));
        }
        let mut answer = json!({ "header": self.header(me, true), "ID": long(id) });
        if path.ends_with("keepalive") {
            let ttl = self.commit(now, me.cluster, |state| Ok(state.keys.keep_alive(id, now)))?;
            set(&mut answer, "TTL", long(ttl.unwrap_or(0)));
            // A stream: each message is wrapped.
            return Ok(ok(json!({ "result": answer })));
        }
        match self.state(&me.at).and_then(|s| s.keys.time_to_live(id, now)) {
            Some((left, granted)) => {
                set(&mut answer, "TTL", long(left));
                set(&mut answer, "grantedTTL", long(granted));
            }
            None => answer["TTL"] = json!("-1"),
        }
        Ok(ok(answer))
    }

    fn header(&self, me: &Me, revision: bool) -> Value {
        let mut header = json!({ "cluster_id": long(me.cluster), "member_id": long(me.id) });
        if let Some(state) = self.state(&me.at) {
            if revision {
                set(&mut header, "revision", long(state.keys.revision));
            }
            set(&mut header, "raft_term", long(state.term));
        }
        header
    }

    fn health(&self, me: &Me) -> Answer {
        let alarmed = self.state(&me.at).is_none_or(|s| !s.alarms.is_empty());
        let healthy = !alarmed && self.leader_of(me).is_some();
        Answer::Json { status: if healthy { 200 } else { 503 }, body: json!({ "health": healthy.to_string() }) }
    }

    fn status(&self, me: &Me) -> Value {
        let none = State::default();
        let state = self.state(&me.at).unwrap_or(&none);
        let leader = self.leader_of(me);
        let mut answer = json!({ "header": self.header(me, true), "version": VERSION, "dbSize": "20480" });
        set(&mut answer, "leader", long(leader.unwrap_or(0)));
        set(&mut answer, "raftIndex", long(state.index));
        set(&mut answer, "raftTerm", long(state.term));
        set(&mut answer, "raftAppliedIndex", long(state.index));
        let mut errors: Vec<Value> = state
            .alarms
            .iter()
            .map(|(member, kind)| Value::String(format!("memberID:{member} alarm:{kind} ")))
            .collect();
        if leader.is_none() {
            errors.insert(0, json!("etcdserver: no leader"));
        }
        set(&mut answer, "errors", Value::Array(errors));
        set(&mut answer, "dbSizeInUse", json!("16384"));
        set(&mut answer, "isLearner", Value::Bool(state.is_learner(me.id)));
        answer
    }

    fn alarm(&mut self, now: u64, me: &Me, body: &Value) -> Result<Value, Refusal> {
        let (member, kind) = (number(body, "memberID")?, text(body, "alarm"));
        let listed: Vec<(u64, String)> = match text(body, "action") {
            "" | "GET" => {
                let all = self.state(&me.at).map(|s| s.alarms.iter().cloned().collect::<Vec<_>>()).unwrap_or_default();
                all.into_iter().filter(|(_, k)| kind.is_empty() || kind == "NONE" || k == kind).collect()
            }
            action @ ("ACTIVATE" | "DEACTIVATE") => {
                match self.set_alarm(now, me, member, kind, action == "ACTIVATE")? {
                    true => vec![(member, kind.to_string())],
                    false => vec![],
                }
            }
            other => return Err(Refusal::malformed(format!("unknown value \"{other}\" for action"))),
        };
        let each = listed.iter().map(|(member, kind)| {
            let mut alarm = json!({ "alarm": kind });
            set(&mut alarm, "memberID", long(*member));
            alarm
        });
        let mut answer = json!({});
        set(&mut answer, "alarms", each.collect());
        Ok(answer)
    }

    fn members(&self, me: &Me, added: Option<u64>) -> Value {
        let one = |(id, info): (&u64, &Info)| {
            let mut member = json!({ "ID": long(*id) });
            set(&mut member, "name", json!(info.name));
            set(&mut member, "peerURLs", json!(info.peer_urls));
            set(&mut member, "clientURLs", json!(info.client_urls));
            set(&mut member, "isLearner", Value::Bool(info.learner));
            member
        };
        let mut answer = json!({ "header": self.header(me, false) });
        let Some(state) = self.state(&me.at) else { return answer };
        if let Some(id) = added
            && let Some(info) = state.members.get(&id)
        {
            answer["member"] = one((&id, info));
        }
        set(&mut answer, "members", state.members.iter().map(one).collect());
        answer
    }
}
