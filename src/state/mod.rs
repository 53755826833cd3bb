//! Keyed state: tables of copy-on-write segments in key groups, and what a snapshot of them is.
