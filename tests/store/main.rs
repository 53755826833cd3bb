//! Stores: one contract for every kind, and the additions of a directory store.

mod contract;
mod damage;
mod directory;
mod facts;
mod flips;
mod kit;
mod owners;
