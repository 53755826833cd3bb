//! Judges payments by rules that change meanwhile. Every subtask gets each rule (broadcast state);
//! a payment meets the rule of its time, whichever comes first. The judging task is killed once.
//!
//! ```sh
//! cargo run --example fraud_rules
//! ```
//!
//! Payments and rules are made here: 200 cards pay for ten minutes; three rules follow each other.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snapline::connect::{Collect, Generator, MemorySink, Source, TwoPhaseSink};
use snapline::{BoxError, BroadcastProcess, Dataflow, Ended, JobConfig, KeyState, Level, Restart};

pub(crate) const PAYMENTS: u64 = 12_000;
const CARDS: u64 = 200;

/// Card, second, cents.
pub(crate) type Payment = (u64, u64, u64);
/// Card, second, why.
pub(crate) type Alert = (u64, u64, String);

/// The limits in an interval.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// From this second on, and up to the second before.
    span: (u64, u64),
    /// Cents at once.
    most: u64,
    /// Payments within a minute.
    in_a_minute: usize,
}

/// Strict in the middle, when stolen cards are tried.
pub(crate) const RULES: [Rule; 3] = [
    Rule { span: (0, 200), most: 80_000, in_a_minute: 9 },
    Rule { span: (200, 400), most: 20_000, in_a_minute: 7 },
    Rule { span: (400, u64::MAX), most: 60_000, in_a_minute: 8 },
];

/// Twenty payments a second, mostly small; cards that end in 7 pay twice as often for a while.
pub(crate) fn payment(number: u64) -> Payment {
    let (second, turn) = (number / 20, number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40);
    let often = (100..500).contains(&second) && turn.is_multiple_of(3);
    let card = if often { turn % 20 * 10 + 7 } else { turn % CARDS };
    let cents = if turn.is_multiple_of(97) { turn % 100_000 } else { turn % 9_000 };
    (card, second, cents)
}

/// The state of a card: its times within the last minute, and payments not judged yet.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Card {
    recent: VecDeque<u64>,
    waiting: Vec<(u64, u64)>,
}

impl Card {
    /// Judges, in order, the payments whose rules are known.
    fn judge(&mut self, card: u64, rules: &[Rule], mut alert: impl FnMut(Alert)) {
        let rule_of =
            |second: u64| rules.iter().find(|rule| (rule.span.0..rule.span.1).contains(&second));
        let known = self.waiting.iter().take_while(|(second, _)| rule_of(*second).is_some());
        let known = known.count();
        for (second, cents) in self.waiting.drain(..known) {
            // Invariant: only payments that have a rule are drained.
            let rule = rule_of(second).expect("the rule of this payment is known");
            self.recent.push_back(second);
            while self.recent.front().is_some_and(|first| first + 60 <= second) {
                self.recent.pop_front();
            }
            if cents > rule.most {
                alert((card, second, format!("{cents} cents, {} are allowed", rule.most)));
            }
            // Once, not for each payment after it.
            if self.recent.len() == rule.in_a_minute + 1 {
                let most = rule.in_a_minute;
                alert((card, second, format!("more than {most} payments in a minute")));
            }
        }
    }
}

#[derive(Clone)]
struct Judge;

impl BroadcastProcess<u64, Payment, Rule> for Judge {
    type State = Card;
    type Shared = Vec<Rule>;
    type Out = Alert;

    fn record<C: Collect<Alert>>(
        &mut self,
        (number, second, cents): Payment,
        rules: &Vec<Rule>,
        card: &mut KeyState<'_, u64, Card>,
        out: &mut C,
    ) {
        card.waiting.push((second, cents));
        card.judge(number, rules, |alert| out.push(alert));
    }

    fn told<C: Collect<Alert>>(&mut self, rule: Rule, rules: &mut Vec<Rule>, _: &mut C) {
        rules.push(rule);
    }

    fn end<C: Collect<Alert>>(
        &mut self,
        number: &u64,
        card: &Card,
        rules: &Vec<Rule>,
        out: &mut C,
    ) {
        card.clone().judge(*number, rules, |alert| out.push(alert));
    }
}

/// `failing`: whether an attempt is killed when it reaches the middle.
pub(crate) fn pipeline(
    payments: impl Source<Record = Payment>,
    rules: impl Source<Record = Rule>,
    failing: Arc<AtomicBool>,
    alerts: impl TwoPhaseSink<Record = Alert>,
) -> Dataflow {
    let flow = Dataflow::new("fraud-rules");
    let rules = flow.source("rules", rules).parallelism(1);
    flow.source("payments", payments)
        .parallelism(1) // so that a card's payments come in order
        .key_by(|payment| payment.0)
        .with_broadcast(rules, Judge)
        .try_map(move |alert: Alert| {
            match alert.1 > 300 && failing.swap(false, Ordering::Relaxed) {
                true => Err::<_, BoxError>("this attempt is killed".into()),
                false => Ok(alert),
            }
        })
        .sink("alerts", alerts);
    flow
}

fn main() -> Result<(), Box<dyn Error>> {
    let (alerts, failing) = (MemorySink::new(), Arc::new(AtomicBool::new(true)));
    // A rule every quarter of a second; meanwhile payments flow.
    let rule = |number: u64| RULES[number as usize];
    let rules = Generator::new(RULES.len() as u64, rule).rate(4);
    let payments = Generator::new(PAYMENTS, payment).rate(12_000);
    let flow = pipeline(payments, rules, failing, alerts.clone());

    let config = JobConfig::new()
        .parallelism(2)
        .checkpoint_interval(Duration::from_millis(50))
        .restart(Restart::Fixed { attempts: 1, pause: Duration::from_millis(10) })
        .require(Level::ExactlyOnce);
    let outcome = flow.build(config)?.run()?;
    println!("outcome: {:?} after {} restart", outcome.ended, outcome.status.restarts);

    let mut found: Vec<Alert> = alerts.committed();
    found.sort();
    for (card, second, why) in found.iter().take(3) {
        println!("card {card} at {second} s: {why}");
    }
    println!("{} alerts", found.len());

    // The same, one payment after the other.
    let (mut expected, mut cards) = (Vec::new(), vec![Card::default(); CARDS as usize]);
    for (number, second, cents) in (0..PAYMENTS).map(payment) {
        let card = &mut cards[number as usize];
        card.waiting.push((second, cents));
        card.judge(number, &RULES, |alert| expected.push(alert));
    }
    expected.sort();
    match outcome.ended {
        Ended::Finished if found == expected && outcome.status.restarts == 1 => Ok(()),
        ended => Err(format!("{ended:?}: expected {} correct alerts", expected.len()).into()),
    }
}
