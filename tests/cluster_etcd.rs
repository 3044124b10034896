//! The etcd drivers against real etcd on loopback ports.

// Helpers of tests are tests; clippy's own exception knows only functions with the attribute.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cluster_scenarios;
mod cluster_support;

use cluster_scenarios::{Members, WAIT, seat};
use cluster_support::{Etcd, etcd_binary};
use rackctl::{
    cluster::etcd::{
        member::bootstrap,
        observe_client::{probe_existing, wait_started},
        observed::{Existing, may_bootstrap},
    },
    model::failure::Cause,
};
use uuid::Uuid;

// fault: F46 invariant: I11 harness: E
#[tokio::test]
async fn one_member_grows_to_three_and_every_step_may_be_repeated() {
    let Some(binary) = etcd_binary() else { return };
    cluster_scenarios::one_member_grows_to_three_and_every_step_may_be_repeated(Members::real(binary)).await;
}

// fault: F45 invariant: I6 harness: E
#[tokio::test]
async fn two_bootstraps_are_seen_and_named() {
    let Some(binary) = etcd_binary() else { return };
    cluster_scenarios::two_bootstraps_are_seen_and_named(Members::real(binary)).await;
}

// fault: F40 invariant: I15 harness: E
#[tokio::test]
async fn without_quorum_the_outcome_is_unknown_and_the_members_are_still_listed() {
    let Some(binary) = etcd_binary() else { return };
    cluster_scenarios::without_quorum_the_outcome_is_unknown_and_the_members_are_still_listed(Members::real(binary))
        .await;
}

#[tokio::test]
async fn compare_and_create_has_one_winner() {
    let Some(binary) = etcd_binary() else { return };
    cluster_scenarios::compare_and_create_has_one_winner(Members::real(binary)).await;
}

// fault: F45 invariant: I6 I15 harness: E
#[tokio::test]
async fn a_member_that_hangs_is_unknown_not_absent() {
    let Some(binary) = etcd_binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let seat = seat("n1");
    let etcd = Etcd::start(&binary, folder.path(), &bootstrap(&seat, Uuid::new_v4()));
    wait_started(&[], &seat.client_url(), "n1", WAIT, |_| {}).await.unwrap();
    etcd.freeze();
    let seen = probe_existing(&[seat.client_url()]).await.unwrap();
    assert!(matches!(seen[0].1, Existing::Unknown { .. }), "{seen:?}");
    assert_eq!(may_bootstrap("bootstrap", &seen).unwrap_err().cause, Cause::Unreachable);
}
