//! Carries out what the protocol decides: tasks, the workers that host them, and the coordinator.
//!
//! | module | what |
//! |---|---|
//! | [`attempt`] | one attempt of a job: deploys its tasks and ends them |
//! | [`coordinator`] | the coordinator's driver: its timers, its store, its effects |
//! | [`events`] | the events that reach the driver |
//! | [`failure`] | why a task failed, and whether a restart can help |
//! | [`handle`] | the handle of a running job: status, checkpoints, stopping |
//! | `json` | the status as JSON |
//! | [`restart`] | when a failed job starts again |
//! | `signals` | suspends the job on Ctrl-C and SIGTERM |
//! | [`status`] | what a job is doing, for metrics, pages and users |
//! | [`task`] | one subtask: a step function around the machines of the protocol |
//! | [`task_metrics`] | the metrics of a task |
//! | [`watchdog`] | watches the coordinator's thread |
//! | [`worker`] | a thread that hosts subtasks |

pub(crate) mod attempt;
pub(crate) mod coordinator;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod handle;
mod json;
pub(crate) mod restart;
#[cfg(feature = "signals")]
pub(crate) mod signals;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod task_metrics;
pub(crate) mod watchdog;
pub(crate) mod worker;
