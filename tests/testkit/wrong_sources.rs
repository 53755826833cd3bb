//! Sources with one fault each.

use snapline::BoxError;
use snapline::connect::{Collect, OpenContext, Progress, Source, SourceReader};
use snapline::testkit::{self, Law};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    PositionOfTheBatch,
    OneFurther,
    AnyOrder,
    GoesOnBehindTheEnd,
    AllAtOnce,
    EachReadsAll,
    Fails,
    Waits,
    PositionCannotBeRead,
}

#[derive(Clone, Copy)]
struct Numbers(Wrong);

struct Reader {
    wrong: Wrong,
    opened_at: u64,
    next: u64,
    step: u64,
    fetched: u64,
    over: bool,
}

/// A position that can be written; in the faulty case, those above 5 cannot be read back.
#[derive(Clone, Copy)]
struct Position(u64, Wrong);

impl serde::Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let odd = self.1 == Wrong::PositionCannotBeRead && self.0 > 5;
        (self.0, odd).serialize(to)
    }
}

impl<'de> serde::Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match <(u64, bool)>::deserialize(from)? {
            (at, false) => Ok(Self(at, Wrong::Nothing)),
            (_, true) => Err(serde::de::Error::custom("a socket cannot be read back")),
        }
    }
}

impl Source for Numbers {
    type Record = u64;
    type Position = Position;
    type Reader = Reader;

    fn open(&self, context: &OpenContext, position: Option<Position>) -> Result<Reader, BoxError> {
        let (index, parallelism) = match self.0 {
            Wrong::EachReadsAll => (0, 1),
            _ => (context.index as u64, context.parallelism as u64),
        };
        let next = position.map_or(index, |position| position.0);
        let (wrong, opened_at) = (self.0, next);
        Ok(Reader { wrong, opened_at, next, step: parallelism, fetched: next, over: false })
    }
}

impl SourceReader for Reader {
    type Record = u64;
    type Position = Position;

    fn read<C: Collect<u64>>(&mut self, limit: usize, out: &mut C) -> Result<Progress, BoxError> {
        if self.over && self.wrong == Wrong::GoesOnBehindTheEnd {
            out.push(7);
        }
        let limit = if self.wrong == Wrong::AllAtOnce { 1000 } else { limit };
        for _ in 0..limit {
            if self.next >= 300 {
                self.over = true;
                return Ok(Progress::End);
            }
            match self.wrong {
                Wrong::Fails if self.next > 20 => return Err("the line is cut".into()),
                Wrong::Waits if self.next > 20 => {
                    return Ok(Progress::Wait(std::time::Duration::ZERO));
                }
                Wrong::AnyOrder if self.opened_at > 9 => out.push(300 - self.next),
                _ => out.push(self.next),
            }
            self.next += self.step;
            if self.next > self.fetched {
                self.fetched = self.next + 8 * self.step;
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> Position {
        let at = match self.wrong {
            Wrong::PositionOfTheBatch => self.fetched,
            Wrong::OneFurther if self.next > self.step => self.next + self.step,
            _ => self.next,
        };
        Position(at, self.wrong)
    }
}

#[test]
fn each_wrong_one_is_caught_by_its_law() {
    let check = |wrong| testkit::source(Numbers(wrong)).at_most(400).check();
    let report = check(Wrong::Nothing).unwrap_or_else(|violation| panic!("{violation}"));
    assert!(report.runs > 100, "{report}");
    for (wrong, law) in [
        (Wrong::PositionOfTheBatch, Law::Replayable),
        (Wrong::OneFurther, Law::Replayable),
        (Wrong::AnyOrder, Law::Replayable),
        (Wrong::GoesOnBehindTheEnd, Law::EndIsEnd),
        (Wrong::AllAtOnce, Law::LimitIsKept),
        (Wrong::EachReadsAll, Law::SameForAll),
        (Wrong::Fails, Law::CallsReturn),
        (Wrong::Waits, Law::CallsReturn),
        (Wrong::PositionCannotBeRead, Law::StateIsData),
    ] {
        let violation = check(wrong).expect_err(&format!("{wrong:?} is not caught"));
        assert_eq!(violation.law, law, "{wrong:?}: {violation}");
        eprintln!("{wrong:?}: {}", violation.seen);
    }
}
