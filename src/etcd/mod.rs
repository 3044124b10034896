//! Level 1: etcd's v3 JSON gateway, spoken with the HTTP client that is here anyway. Two drivers share it: the cluster
//! driver, which looks after an etcd, and the store, which lives in one. It knows neither.
//!
//! | file | holds |
//! |---|---|
//! | [`client`] | one call to one endpoint: deadline, body limit, error bodies read |
//! | [`pool_client`] | several endpoints of one cluster, tried in turn until one answers |
//! | [`tls_load`] | CA, client certificate and key from files |
//! | [`error`] | what etcd's error texts mean (pure) |
//! | [`request`] | transactions and ranges as they are asked for (pure) |
//! | [`wire`] | JSON shapes: base64 keys, 64-bit numbers as strings, absent `false` and `0` (pure) |

pub mod client;
pub mod error;
pub mod pool_client;
pub mod request;
pub mod tls_load;
pub mod wire;
