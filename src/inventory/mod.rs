//! Text → [`Fleet`](crate::model::Fleet): what the operator wrote, checked whole, resolved, with places.
//!
//! `load` (files) → `yaml` (text → tree with places) → `check` (tree against `schema`) → `effective` (site, class,
//! profile and node laid over each other by `merge`, templates filled in) → `rules` (what holds between objects) →
//! `resolve` (→ `Fleet`). Only `load` does I/O.

mod check;
pub mod edit;
mod effective;
pub mod explain;
pub mod fault;
pub mod format;
pub mod kinds;
pub mod load;
pub mod manifest;
mod merge;
mod parallel;
mod paths;
pub mod play;
mod read;
mod resolve;
mod rules;
pub mod schema;
pub mod select;
pub mod template;
mod words;
pub mod yaml;

pub use explain::explain;
pub use fault::{Fault, Faults};
pub use kinds::Kind;
pub use load::{Loaded, Source, default_sources, load, load_to_look, load_values};
