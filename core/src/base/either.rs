//! One of two types.

use serde::{Deserialize, Serialize};

/// One of two.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// Of the first kind.
    Left(L),
    /// Of the second.
    Right(R),
}
