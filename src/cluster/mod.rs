//! Cluster drivers: they look at a cluster and change its membership when told to. What may be changed, and when,
//! is decided elsewhere. The pure guard in `plan::quorum` is not consulted by runs yet: they grow a cluster one
//! verified member at a time and remove none.

pub mod etcd;
