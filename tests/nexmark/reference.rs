//! The same over all events at once: no streams, and no time except that of the records.

use std::collections::{BTreeMap, BTreeSet};

use nexmark::event::{Auction, Bid, Event, Person};

const SECOND: u64 = 1_000;

pub(crate) fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(|event| if let Event::Bid(bid) = event { Some(bid) } else { None })
}

fn auctions(events: &[Event]) -> impl Iterator<Item = &Auction> {
    events.iter().filter_map(|event| if let Event::Auction(it) = event { Some(it) } else { None })
}

fn people(events: &[Event]) -> impl Iterator<Item = &Person> {
    events.iter().filter_map(|event| if let Event::Person(it) = event { Some(it) } else { None })
}

pub(crate) fn currency(events: &[Event]) -> Vec<Bid> {
    bids(events).map(|bid| Bid { price: bid.price * 908 / 1_000, ..bid.clone() }).collect()
}

pub(crate) fn selection(events: &[Event]) -> Vec<(usize, usize)> {
    let some = bids(events).filter(|bid| bid.auction % 123 == 0);
    some.map(|bid| (bid.auction, bid.price)).collect()
}

pub(crate) fn local_items(events: &[Event]) -> Vec<(String, String, String, usize)> {
    let mut found = Vec::new();
    for auction in auctions(events) {
        for person in people(events) {
            let there = matches!(person.state.as_str(), "or" | "id" | "ca");
            if auction.category == 10 && auction.seller == person.id && there {
                let Person { name, city, state, .. } = person.clone();
                found.push((name, city, state, auction.id));
            }
        }
    }
    found
}

pub(crate) fn average_price(events: &[Event]) -> Vec<(usize, usize)> {
    let mut sold: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for auction in auctions(events) {
        let bids = bids(events).filter(|bid| {
            bid.auction == auction.id
                && bid.date_time >= auction.date_time
                && bid.date_time <= auction.expires
        });
        if let Some(price) = bids.map(|bid| bid.price).max() {
            sold.entry(auction.category).or_default().push(price);
        }
    }
    let average = |prices: &Vec<usize>| prices.iter().sum::<usize>() / prices.len();
    sold.iter().map(|(category, prices)| (*category, average(prices))).collect()
}

pub(crate) fn hot_items(events: &[Event]) -> Vec<(i64, usize, u64)> {
    let mut counts: BTreeMap<u64, BTreeMap<usize, u64>> = BTreeMap::new();
    for bid in bids(events) {
        // Windows end at even seconds; a bid is in five of them.
        let first = (bid.date_time / (2 * SECOND) + 1) * 2 * SECOND;
        for end in (first..).step_by(2 * SECOND as usize).take(5) {
            *counts.entry(end).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let mut hot = Vec::new();
    for (end, counts) in counts {
        let most = counts.values().copied().max();
        for (auction, count) in counts.into_iter().filter(|(_, count)| Some(*count) == most) {
            hot.push((end as i64, auction, count));
        }
    }
    hot
}

pub(crate) fn highest_bid(events: &[Event]) -> Vec<(i64, usize, usize, usize)> {
    let window = |bid: &Bid| bid.date_time / (10 * SECOND);
    let mut highest: BTreeMap<u64, usize> = BTreeMap::new();
    for bid in bids(events) {
        let price = highest.entry(window(bid)).or_default();
        *price = bid.price.max(*price);
    }
    let is_highest = |bid: &&Bid| bid.price == highest[&window(bid)];
    let end = |bid: &Bid| ((window(bid) + 1) * 10 * SECOND) as i64;
    let all = bids(events).filter(is_highest);
    all.map(|bid| (end(bid), bid.auction, bid.bidder, bid.price)).collect()
}

pub(crate) fn new_users(events: &[Event]) -> Vec<(usize, String, i64)> {
    let mut found = BTreeSet::new();
    for person in people(events) {
        for auction in auctions(events).filter(|auction| auction.seller == person.id) {
            let window = person.date_time / (10 * SECOND);
            if window == auction.date_time / (10 * SECOND) {
                let end = ((window + 1) * 10 * SECOND) as i64;
                found.insert((person.id, person.name.clone(), end));
            }
        }
    }
    found.into_iter().collect()
}
