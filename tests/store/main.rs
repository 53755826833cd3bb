//! Stores: one contract for every kind, and what a directory adds to it.

mod contract;
mod damage;
mod directory;
mod facts;
mod flips;
mod kit;
mod owners;
