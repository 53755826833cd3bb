//! Longer reading: how this crate compares with what you may know.

#[doc = include_str!("guide/flink.md")]
pub mod flink {}
