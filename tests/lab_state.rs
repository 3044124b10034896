//! F57, on simulated machines with real BMCs, SSH and etcd on the wire: a state that is lost is made anew from what
//! machines say, and nothing is installed twice.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, outside of #[test] functions

mod cluster_support;
mod e2e;

use std::{collections::BTreeMap, fs, path::PathBuf};

use e2e::{BRING_UP, Bench, until};
use rackctl::{
    model::facts::{InstallPhase, NodeRecord},
    store::{ClusterRecord, Draft, Fence, Holder, RecordKind, Store},
};

/// What a store knows of nodes and of the cluster, without the times at which it learned it.
fn known(lab: &Bench) -> (BTreeMap<String, NodeRecord>, Option<ClusterRecord>) {
    let store = lab.store();
    let nodes = store.node_records().unwrap().into_iter().map(|(n, r)| (n, NodeRecord { at: 0, ..r })).collect();
    let cluster = store.export().unwrap().clusters.into_values().next();
    (nodes, cluster.map(|c| ClusterRecord { run: String::new(), ..c }))
}

fn state(lab: &Bench) -> PathBuf {
    lab.fleet_folder().join("state.db")
}

fn lose(lab: &Bench) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(lab.fleet_folder().join(format!("state.db{end}")));
    }
}

/// Everything is there, and every machine was written once.
fn all_is_done(lab: &Bench) {
    lab.look(&["apply", "--allow", "data-loss"]).exits(0).tells(&["every step was found done"]);
    for machine in lab.status().machines {
        assert_eq!(machine.simulated.unwrap().wipes, 1, "{}", machine.name);
    }
}

#[test]
fn lab_state_is_lost_and_rebuilt_from_what_machines_say() {
    let Some(lab) = e2e::simulated("lost", &["--nodes", "3"], cluster_support::sshd::program()) else { return };
    let hash = lab.plan_hash(&["--allow", "data-loss"]);
    lab.rackctl(&["apply", "--allow", "data-loss", "--approve", &hash], BRING_UP).exits(0);
    let before = known(&lab);
    assert!(before.0.len() == 3 && before.1.is_some());
    lab.look(&["audit", "verify"]).exits(0).tells(&["the chain holds"]);
    let older = fs::read(state(&lab)).unwrap();
    let requests = lab.all_requests();

    // Gone: nothing is done until somebody says what to believe.
    lose(&lab);
    lab.look(&["apply", "--allow", "data-loss", "--yes"]).exits(3).tells(&["it is gone", "rackctl state rebuild"]);
    let said = lab.look(&["state", "rebuild", "--yes"]).exits(7).tells(&["SHA256:", "--trust-host-keys", "node/n3"]);
    assert!(!said.out.contains("Installed"), "{said}");
    lab.look(&["apply", "--allow", "data-loss", "--yes"]).exits(3).tells(&["state rebuild"]);
    lab.look(&["get", "nodes"]).exits(0).tells(&["Unknown"]);
    assert!(known(&lab).0.values().all(|r| r.phase == InstallPhase::Unknown));

    // The operator has compared the keys: the same records come back, token of the cluster included.
    lab.look(&["state", "rebuild", "--trust-host-keys", "--yes"]).exits(0).tells(&["filled in", "Installed"]);
    assert_eq!(known(&lab).0, before.0);
    assert_eq!(known(&lab).1.map(|c| (c.token, c.cluster_id)), before.1.clone().map(|c| (c.token, c.cluster_id)));
    all_is_done(&lab);
    assert_eq!(lab.writes_since(&requests), Vec::<String>::new(), "no BMC was written to");

    // An older copy: its host keys still prove who answers.
    lab.store()
        .append(
            "r-x",
            1,
            &Fence::of_nothing(&Holder::this()),
            Draft { subject: "x".into(), step: "x".into(), attempt: 1, kind: RecordKind::Fact, body: 1.into() },
        )
        .unwrap();
    lose(&lab);
    fs::write(state(&lab), &older).unwrap();
    lab.look(&["apply"]).exits(3).tells(&["another state", "rackctl state rebuild"]);
    let said = lab.look(&["state", "rebuild", "--yes"]).exits(0);
    assert!(!said.all().contains("SHA256:"), "nobody had to be believed: {said}");
    assert_eq!(known(&lab).0, before.0);
    all_is_done(&lab);

    // Garbled, while one machine is off: that one is unknown, and is not taken for bare.
    lab.rackctl(&["power", "off", "n3", "--force", "--yes"], BRING_UP).exits(0);
    lose(&lab);
    fs::write(state(&lab), vec![0x5a; older.len()]).unwrap();
    lab.look(&["apply"]).exits(3).tells(&["first bad record is 1"]);
    let said = lab.look(&["state", "rebuild", "--trust-host-keys", "--yes"]).exits(4);
    assert!(said.tells(&["its power is off"]).out.contains("Unknown"));
    let plan = lab.look(&["plan", "--allow", "data-loss"]).tells(&["n3: the state was lost"]);
    assert!(!plan.all().contains("write-disk"), "{plan}");
    lab.rackctl(&["power", "on", "n3", "--yes"], BRING_UP).exits(0);
    until("n3 answers and is known again", BRING_UP, || {
        (lab.look(&["state", "rebuild", "--trust-host-keys", "--yes"]).code == 0).then_some(())
    });
    assert_eq!(known(&lab).0, before.0);
    until("the cluster is whole again", BRING_UP, || (lab.look(&["apply"]).code == 0).then_some(()));
    all_is_done(&lab);
    lab.look(&["audit", "verify"]).exits(0);
}
