//! Makes inputs from inputs: flips bits, changes bytes, cuts, doubles, moves and exchanges pieces,
//! writes limit values where lengths and counts are, and inserts words of the format. The result
//! depends on the seed alone.

/// Pseudo-random numbers, the same for one seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub const fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// The longest input.
pub const LONGEST: usize = 8 << 10;

/// Numbers at the limits of types and buffers.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 54,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// An input made of one of these.
#[must_use]
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = random.one(seeds).cloned().unwrap_or_default();
    // Mostly a few changes: after many, little of the input is still read.
    for _ in 0..1 + random.below(4) {
        change(random, &mut bytes, seeds, words);
    }
    if random.below(4) == 0
        && let Some(first) = bytes.first_mut()
    {
        // It selects the meaning of the rest.
        *first = random.next() as u8;
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(16)).min(bytes.len());
    match random.below(13) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.insert(at, random.next() as u8),
        6 => {
            let piece = bytes[at..end].to_vec();
            let times = 1 + random.below(64);
            bytes.splice(at..at, piece.repeat(times));
        }
        7 => {
            let other = random.one(seeds).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() + 1 - from);
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        8 | 9 => {
            // Overwrites a length, a count or a position.
            let number = near(random).to_le_bytes();
            let size = 1 << random.below(4);
            for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..size]) {
                *byte = *new;
            }
            if random.below(2) == 0 {
                let end = (at + size).min(bytes.len());
                bytes[at..end].reverse();
            }
        }
        10 => {
            // A number in digits: the next one in the input is replaced.
            let digits = |byte: &u8| byte.is_ascii_digit();
            let from = at + bytes[at..].iter().take_while(|byte| !digits(byte)).count();
            let to = from + bytes[from..].iter().take_while(|byte| digits(byte)).count();
            bytes.splice(from..to, near(random).to_string().into_bytes());
        }
        _ => {
            let word = random.one(words).copied().unwrap_or_default();
            let to = if random.below(2) == 0 { at } else { end };
            bytes.splice(at..to, word.bytes());
        }
    }
}

fn near(random: &mut Random) -> u64 {
    let number = NUMBERS[random.below(NUMBERS.len())];
    number.wrapping_add(random.below(5) as u64).wrapping_sub(2)
}
