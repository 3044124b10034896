//! `rackctl` takes bare machines from "racked, powered off, BMC on the network" to "members of a healthy cluster".
//! One binary, run by an operator at a terminal, against machines that lie. This is the map; read it first.
//!
//! # Six nouns, one loop
//!
//! ```text
//!       inventory/ profiles/ playbooks/ (text)            BMC, SSH, cluster (probes)
//!                  │ load, resolve, check                           │ probe
//!                  ▼                                                ▼
//!                Fleet  (what should be)                 Facts  (what is, with age and source)
//!                  └────────────────────┬───────────────────────────┘
//!                                       ▼  plan(&Fleet, &Facts, &Goal) -> Plan or Refusals    pure
//!                                     Plan  steps labelled reversible, reboot or DATA LOSS; named by its hash
//!                                       ▼
//!                         Engine: (now, Event) -> Vec<Effect>                                 pure
//!                            ▲                        │
//!                      Event │    THE ONE LOOP (run)  │ Effect
//!                            └── bmc · netboot · install · cluster · image ◄┘
//!                                       │ every event and every intent is durable before its effect
//!                                       ▼
//!                                    Journal  (in the Store; to resume is to replay)
//!                                       ▼
//!                                    output   (folds over events: tables, JSON, progress)
//! ```
//!
//! The whole product in one path: `cli` loads a [`model::Fleet`], observes [`model::facts::Facts`], plans a
//! [`model::goal::Goal`], shows, asks, runs and reports.
//!
//! # Where things are
//!
//! A module knows modules of lower levels alone; level 3 knows `model` alone (`cluster` and `store`: `etcd` too).
//!
//! | level | module | holds |
//! |---|---|---|
//! | 0 | [`model`] | values: node, fleet, boot, facts, goal, failure. No tokio, no files, no clap |
//! | 1 | [`inventory`], [`plan`] | text → Fleet; Fleet + Facts + Goal → Plan or Refusals |
//! | 1 | [`etcd`] | the small client of etcd, which `cluster` and `store` alone share |
//! | 2 | [`engine`] | a run's tracks as a state machine, retry, resume; time is an argument |
//! | 3 | [`bmc`], [`netboot`], [`remote`], [`install`], [`cluster`], [`image`], [`secrets`], [`store`] | drivers: a pure core each, and thin files that do the I/O |
//! | 4 | [`run`], [`output`], [`lab`] | the loop that joins engine and drivers; the views; the laboratory fleet |
//! | 5 | [`sim`] | deterministic simulation: a fleet under a virtual clock drives planner, engine, guards and desk |
//! | 6 | [`cli`] | a file a verb: strings become goals, outcomes become exit codes |
//!
//! Beside this crate: `wire/` (the values that rackctl and the node program say to each other), `node/` (the
//! program of the installer and of installed nodes; it shares `wire` alone) and `xtask/` (developers' chores).
//!
//! # Invariants
//!
//! 1. Arrows point down the table. `tests/arrows.rs` names the file and line of one that does not.
//! 2. Decisions are pure: bytes or values in and out, `now` an argument. I/O lives in files that say so by name
//!    (`client`, `socket`, `serve`, `exec`, `store`, `load`) and in `run`.
//! 3. Drivers report; they never decide and never print.
//! 4. An intent is durable before its effect. After a crash an intent without a result is *unknown*: it is
//!    observed, never blindly repeated.
//! 5. An event is the contract between doing and showing: every view is a fold over events.
//! 6. Laboratory and product share the wire types, so a fake BMC and a real client cannot drift apart.
//! 7. A [`model::Secret`] does not serialise, debug-print or clone: it cannot reach a plan, an event or a journal.
//! 8. Everything has a limit with a name: queues, retries, bodies, leases, deadlines. Waiting has a reason, and
//!    `describe` shows it.
//! 9. Network-boot servers get an immutable [`model::boot::BootTable`], replaced whole when it changes; they
//!    answer only the machines of the run, and die with it.
//!
//! # Absent on purpose
//!
//! No general graph of steps: a plan is waves of tracks of known steps, simple to read and to prove. No `dyn`
//! where a set is closed. No shell: foreign programs get an argv that a pure function built. No daemon that must
//! keep running.

pub mod bmc;
pub mod cli;
pub mod cluster;
pub mod engine;
pub mod etcd;
pub mod image;
pub mod install;
pub mod inventory;
pub mod lab;
pub mod model;
pub mod netboot;
pub mod output;
pub mod plan;
pub mod remote;
pub mod run;
pub mod secrets;
pub mod sim;
pub mod store;
