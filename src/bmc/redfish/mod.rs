//! Redfish as data: wire types and the limits under which foreign JSON is read.

pub mod json;
pub mod wire;
