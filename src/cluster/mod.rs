//! Cluster drivers: they look at a cluster and change its membership when told to. What may be changed,
//! and when, is decided elsewhere, with the pure guard in [`etcd::quorum`].

pub mod etcd;
