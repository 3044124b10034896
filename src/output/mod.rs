//! Level 4: what people and scripts see. Folds over events and values; decides nothing.
//!
//! Everything that goes to standard output passes [`stdout::print`]: a closed pipe ends the
//! process with success, and foreign text has gone through [`clean`] before.

pub mod age;
pub mod clean;
pub mod columns;
pub mod describe;
pub mod exit;
pub mod failure;
pub mod format;
pub mod jsonpath;
pub mod kind;
pub mod plan;
pub mod play;
pub mod progress;
pub mod records;
pub mod report;
pub mod resource;
pub mod stdout;
pub mod table;
pub mod tally;
pub mod timeline;
pub mod yaml;

pub use exit::Exit;
pub use failure::Stop;
pub use format::Format;
pub use kind::Kind;
pub use table::Table;
