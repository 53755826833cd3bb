//! Recorded runs and their replay (SPEC 11.5-11.10): real runs conform to the protocol, edited ones
//! do not.

mod edits;
mod files;
mod glue;
mod jobs;
mod reading;
