use super::*;
use crate::{
    model::{
        Failure,
        facts::NodeRecord,
        failure::Cause,
        fleet::BootMode,
        goal::{Goal, Scope},
    },
    plan::{Plan, Step, Subject, Track},
    store::{Holder, outline::fold},
};

const T0: UnixMs = 1_767_366_000_000;

fn step(id: &str, kind: StepKind, awaits: &[&str]) -> Step {
    Step {
        id: id.into(),
        danger: kind.danger(),
        kind,
        why: String::new(),
        awaits: awaits.iter().map(|a| (*a).into()).collect(),
    }
}

fn plan() -> Plan {
    let machine = vec![
        step("n1/check-identity", StepKind::CheckIdentity, &[]),
        step("n1/boot-installer", StepKind::BootInstaller { target: BootTarget::Pxe, mode: BootMode::Uefi }, &[]),
        step("n1/await-claim", StepKind::AwaitClaim, &[]),
        step("n1/await-installed", StepKind::AwaitInstalled { generation: 1 }, &[]),
    ];
    let member = || "n1".to_owned();
    let cluster = vec![
        step("cluster/core/bootstrap-n1", StepKind::Bootstrap { member: member() }, &["n1/await-installed"]),
        step("cluster/core/verify-member-n1", StepKind::VerifyMember { member: member() }, &[]),
    ];
    let track = |subject, steps| Track { steps, ..Track::new(subject) };
    Plan {
        tracks: vec![track(Subject::Node("n1".into()), machine), track(Subject::Cluster("core".into()), cluster)],
        ..Plan::empty("f", &Goal::Join { nodes: Scope(vec!["n1".into()]) })
    }
}

fn run(state: RunState) -> RunHead {
    RunHead {
        id: "r-1".into(),
        started_ms: T0,
        ended_ms: None,
        state,
        goal: plan().goal,
        plan_hash: String::new(),
        actor: Holder::this(),
    }
}

fn record(after_s: u64, subject: &str, step: &str, kind: RecordKind) -> Record {
    let failure = Failure::new(Cause::Deadline, "n1: claim", "no installer called");
    Record {
        schema: 1,
        run: "r-1".into(),
        seq: after_s,
        at_ms: T0 + after_s * 1_000,
        subject: subject.into(),
        step: step.into(),
        attempt: 1,
        kind,
        fence: 1,
        actor: String::new(),
        body: if kind == RecordKind::Failed {
            serde_json::json!({ "failure": failure })
        } else {
            serde_json::Value::Null
        },
        previous: String::new(),
        hash: String::new(),
    }
}

const INVENTORY: &str = "
apiVersion: rackctl.dev/v1alpha1
kind: Node
metadata: { name: n1, labels: { role: member } }
spec: { interfaces: [{ mac: '52:54:00:00:00:01', network: prov, role: provision, addresses: [10.77.0.11/24] }] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Network
metadata: { name: prov }
spec: { interface: br0, subnets: [{ cidr: 10.77.0.0/24 }] }
---
apiVersion: rackctl.dev/v1alpha1
kind: Cluster
metadata: { name: core }
spec: { driver: { etcd: { version: '3.4.23' } }, members: { selector: role=member, size: 1 } }
";

fn fleet() -> Fleet {
    let source = crate::inventory::Source::Stdin(INVENTORY.into());
    crate::inventory::load(&[source]).unwrap_or_else(|faults| panic!("{faults}")).fleet
}

struct Case {
    state: RunState,
    alive: bool,
    chain: Vec<Record>,
    record: Option<InstallPhase>,
}

impl Case {
    fn memory<T>(&self, ask: impl FnOnce(&Memory<'_>) -> T) -> T {
        let (fleet, runs) = (fleet(), [run(self.state)]);
        let open: Vec<OpenRun> =
            runs.iter().filter(|r| r.state.is_open()).map(|r| OpenRun::new(&r.id, plan(), &self.chain)).collect();
        let mut standings = Standings::new();
        fold(&mut standings, &self.chain);
        ask(&Memory::new(&fleet, &runs, &open, &standings, &|_| self.alive))
    }
    fn view(&self) -> NodeView {
        let record = self.record.map(|phase| NodeRecord {
            generation: 1,
            run: "r-1".into(),
            phase,
            system_host_key: String::new(),
            disk_guid: uuid::Uuid::nil(),
            disk_serial: None,
            system_sha256: String::new(),
            at: T0 + 30_000,
            over: None,
        });
        let bmc = (T0, Err(Failure::new(Cause::Unreachable, "n1: BMC", "no answer")));
        let bmc = self.chain.is_empty().then_some(bmc);
        self.memory(|m| m.node("n1", &Seen { at: Some(T0), record, bmc, ..Seen::default() }))
    }
}

fn begun() -> Vec<Record> {
    use RecordKind::{Done, Intent};
    vec![
        record(1, "n1", "n1/check-identity", Done),
        record(1, "n1", "n1/boot-installer", Intent),
        record(3, "n1", "n1/boot-installer", Done),
    ]
}

fn installed() -> Vec<Record> {
    use RecordKind::Done;
    let more = [record(20, "n1", "n1/await-claim", Done), record(30, "n1", "n1/await-installed", Done)];
    begun().into_iter().chain(more).collect()
}

#[test]
fn a_step_that_looks_began_when_the_one_before_it_was_done() {
    let view = Case { state: RunState::Running, alive: true, chain: begun(), record: None }.view();
    assert_eq!(view.phase.as_deref(), Some("Installing"));
    assert_eq!(view.waiting.as_deref(), Some("await-claim since 2026-01-02T15:00:03Z, at most 420 s"));
    assert_eq!((view.reason, view.power), (None, Some(PowerState::On)), "the journal is younger than the BMC's answer");
    assert_eq!(view.observed, Some(T0 + 3_000));
}

#[test]
fn a_crashed_or_interrupted_run_says_how_to_go_on() {
    for (state, alive, how) in [(RunState::Running, false, "crashed"), (RunState::Interrupted, true, "was interrupted")]
    {
        let case = Case { state, alive, chain: begun(), record: None };
        let view = case.view();
        let expected = format!("run r-1 {how} at await-claim; rackctl resume r-1");
        assert_eq!((view.reason.as_deref(), view.waiting), (Some(expected.as_str()), None));
        let by_hand = case.memory(|m| m.by_hand(&m.pending_of_node("n1").unwrap(), Some("n1")));
        assert_eq!(by_hand.last().map(String::as_str), Some("rackctl resume r-1"));
    }
}

#[test]
fn from_installed_to_member() {
    let mut chain = installed();
    let case = |chain: &[Record]| Case {
        state: RunState::Running,
        alive: true,
        chain: chain.to_vec(),
        record: Some(InstallPhase::Installed),
    };
    let view = case(&chain).view();
    assert_eq!(view.phase.as_deref(), Some("Joining"));
    assert_eq!(view.waiting.as_deref(), Some("bootstrap n1 waits for n1/await-installed"));
    chain.push(record(31, "core", "cluster/core/bootstrap-n1", RecordKind::Done));
    let by_hand = case(&chain).memory(|m| m.by_hand(&m.pending_of_node("n1").unwrap(), Some("n1")));
    assert!(by_hand[1].starts_with("rackctl ssh n1 -- etcdctl --endpoints http://10.77.0.11:2379 "), "{by_hand:?}");
    chain.push(record(33, "core", "cluster/core/verify-member-n1", RecordKind::Done));
    let view = case(&chain).view();
    assert_eq!((view.phase.as_deref(), view.reason, view.waiting), (Some("Member"), None, None));
    let cluster = case(&chain).memory(|m| m.cluster("core", |_| Some(T0 + 30_000)));
    assert_eq!((cluster.members, cluster.observed), (Some(1), Some(T0 + 33_000)));
    let again = case(&chain).memory(|m| m.cluster("core", |_| Some(T0 + 90_000)));
    assert_eq!(again.members, None, "installed anew after it was verified");
}

#[test]
fn failures_stand_until_something_comes_after_them() {
    let mut chain = begun();
    chain.push(record(9, "n1", "n1/await-claim", RecordKind::Failed));
    let view = Case { state: RunState::Failed, alive: false, chain: chain.clone(), record: None }.view();
    assert_eq!(
        (view.phase.as_deref(), view.reason.as_deref()),
        (Some("Failed"), Some("n1: claim: no installer called"))
    );
    chain.push(record(12, "n1", "n1/boot-installer", RecordKind::Intent));
    let view = Case { state: RunState::Running, alive: true, chain, record: None }.view();
    assert_eq!((view.phase.as_deref(), view.reason), (Some("Installing"), None));
    assert!(view.waiting.unwrap().starts_with("boot-installer since 2026-01-02T15:00:12Z"));
}

#[test]
fn never_touched_and_not_answering() {
    let view = Case { state: RunState::Succeeded, alive: false, chain: vec![], record: None }.view();
    assert_eq!((view.phase.as_deref(), view.reason.as_deref()), (Some("Registered"), Some("n1: BMC: no answer")));
    assert_eq!(events(&installed())[4], (T0 + 30_000, "done           n1/await-installed".to_owned()));
}
