//! The identity of a file among others of the same name: its content at both ends. It survives a
//! copy to another place, and growth (SPEC 15.12).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

/// The number of bytes compared at each end.
const EDGE: u64 = 4096;

/// The checksums of the first and of the last 4 KiB of a file's first `size` bytes. Of a file of at
/// most 8 KiB that is all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of the first `size` bytes; `None` if the file has fewer. Leaves the read
    /// position undefined.
    pub(super) fn of(file: &mut File, size: u64) -> io::Result<Option<Self>> {
        let edge = size.min(EDGE);
        let mut bytes = [0; EDGE as usize];
        let bytes = &mut bytes[..edge as usize];
        let mut sums = [0; 2];
        for (sum, from) in sums.iter_mut().zip([0, size - edge]) {
            file.seek(SeekFrom::Start(from))?;
            match file.read_exact(bytes) {
                Ok(()) => *sum = crc32fast::hash(bytes),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let [first, last] = sums.map(u64::from);
        Ok(Some(Self(first << 32 | last)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(bytes: &[u8], size: usize) -> Option<Fingerprint> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        fs::write(&path, bytes).expect("writes");
        let mut file = File::open(&path).expect("opens");
        Fingerprint::of(&mut file, size as u64).expect("reads")
    }

    #[test]
    fn growth_keeps_it_and_a_change_at_either_end_does_not() {
        for size in [0, 1, 4095, 4096, 4097, 8192, 100_000] {
            let mut bytes = vec![b'a'; size];
            let then = of(&bytes, size);
            assert!(then.is_some());
            bytes.extend(b"more");
            assert_eq!(of(&bytes, size), then, "{size} bytes");
            assert_eq!(of(&bytes[..size.saturating_sub(1)], size).is_none(), size > 0);
            for at in [0, size.saturating_sub(1)].into_iter().filter(|at| *at < size) {
                bytes[at] = b'b';
                assert_ne!(of(&bytes, size), then, "{size} bytes, changed at {at}");
                bytes[at] = b'a';
            }
        }
    }

    #[test]
    fn ends_that_change_places_are_another_file() {
        let (one, other) = (vec![b'a'; 10_000], vec![b'b'; 10_000]);
        assert_ne!(of(&[&one[..], &other].concat(), 20_000), of(&[other, one].concat(), 20_000));
    }
}
