//! Recorded runs and their replay (SPEC 11.5-11.10): what really ran is as the protocol has it, and what was edited is not.

mod edits;
mod files;
mod glue;
mod jobs;
mod reading;
