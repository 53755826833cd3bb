//! The bytes of a blob (SPEC 13.4): a header that names it, sections end to end, a trailer that
//! covers all of it.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use snapline_protocol::ids::BlobId;

use super::{VERSION, checksum};
use crate::store::{BlobRef, Section, StoreError};

const MAGIC: [u8; 8] = *b"SNAPBLOB";

/// Length of the header: magic, version, checkpoint, term, attempt, subtask, two zero bytes,
/// checksum.
pub const HEADER: usize = 8 + 4 + 8 + 4 + 4 + 2 + 2 + 4;

/// Length of the trailer: number of sections, length of the file, checksum.
pub const TRAILER: usize = 8 + 8 + 4;

/// The number of bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// The totals of a blob while it is being written.
pub struct Encoder {
    id: BlobId,
    offset: u64,
    sections: u64,
    hasher: crc32fast::Hasher,
}

impl Encoder {
    /// Begins a blob; returns its first bytes.
    pub fn new(id: BlobId) -> (Self, [u8; HEADER]) {
        let header = header(id, VERSION);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header);
        (Self { id, offset: HEADER as u64, sections: 0, hasher }, header)
    }

    /// Notes a section, which the caller appends.
    pub fn section(&mut self, bytes: &[u8]) -> Section {
        let length = bytes.len() as u64;
        let section =
            Section { blob: self.id, offset: self.offset, length, checksum: checksum(&[bytes]) };
        self.hasher.update(bytes);
        self.offset += length;
        self.sections += 1;
        section
    }

    /// Ends the blob; returns its last bytes, and its whole length.
    pub fn finish(mut self) -> ([u8; TRAILER], u64) {
        let length = self.offset + TRAILER as u64;
        let mut trailer = [0; TRAILER];
        trailer[..8].copy_from_slice(&self.sections.to_le_bytes());
        trailer[8..16].copy_from_slice(&length.to_le_bytes());
        self.hasher.update(&trailer[..16]);
        trailer[16..].copy_from_slice(&self.hasher.finalize().to_le_bytes());
        (trailer, length)
    }
}

fn header(id: BlobId, version: u32) -> [u8; HEADER] {
    let subtask = u16::try_from(id.subtask.index()).expect("a subtask's id is made from a u16");
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&id.checkpoint.get().to_le_bytes());
    header[20..24].copy_from_slice(&id.attempt.term.get().to_le_bytes());
    header[24..28].copy_from_slice(&id.attempt.number.to_le_bytes());
    header[28..30].copy_from_slice(&subtask.to_le_bytes());
    let checksum = checksum(&[&header[..HEADER - 4]]);
    header[HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Verifies a blob's header: it is one, is whole, is of a known version, and names this blob.
fn check_header(what: &str, id: BlobId, found: &[u8; HEADER]) -> Result<(), StoreError> {
    if *found == header(id, VERSION) {
        return Ok(());
    }
    let corrupt = |expected: &str, found: String| StoreError::corrupt(what, expected, found);
    if found[..8] != MAGIC {
        let begin = String::from_utf8_lossy(&found[..8]).into_owned();
        return Err(corrupt("a blob that begins with SNAPBLOB", format!("{begin:?}")));
    }
    let (said, computed) = (u32_at(found, HEADER - 4), checksum(&[&found[..HEADER - 4]]));
    if said != computed {
        let expected = format!("a header with checksum {said:08x}");
        return Err(corrupt(&expected, format!("one with checksum {computed:08x}")));
    }
    // SPEC 13.9: after the checksum, so that a damaged version is not taken for a later one.
    let version = u32_at(found, 8);
    if version != VERSION {
        return Err(StoreError::Version { what: what.to_owned(), found: version, known: VERSION });
    }
    // SPEC 13.2
    let named = |header: &[u8; HEADER]| {
        let checkpoint = u64_at(header, 12);
        let (term, number) = (u32_at(header, 20), u32_at(header, 24));
        let (subtask, zero) = (u16_at(header, 28), u16_at(header, 30));
        format!("blob {checkpoint}-t{term}-a{number}-s{subtask} ({zero})")
    };
    Err(corrupt(&named(&header(id, VERSION)), named(found)))
}

/// Verifies every byte of a blob whose file has this length.
pub fn verify(
    what: &str,
    blob: &BlobRef,
    length: u64,
    input: &mut dyn Read,
) -> Result<(), StoreError> {
    if length != blob.length || length < (HEADER + TRAILER) as u64 {
        let expected = format!("{} bytes, {} at least", blob.length, HEADER + TRAILER);
        return Err(StoreError::corrupt(what, expected, format!("{length} bytes")));
    }
    let mut hasher = crc32fast::Hasher::new();
    let header: [u8; HEADER] = read_array(what, input)?;
    check_header(what, blob.id, &header)?;
    hasher.update(&header);
    let mut left = length - (HEADER + TRAILER) as u64;
    let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        read_exact(what, input, &mut chunk[..take])?;
        hasher.update(&chunk[..take]);
        left -= take as u64;
    }
    let trailer: [u8; TRAILER] = read_array(what, input)?;
    hasher.update(&trailer[..16]);
    let (said, computed) = (u32_at(&trailer, 16), hasher.finalize());
    if said != computed {
        let expected = format!("a trailer with checksum {computed:08x} of the whole");
        return Err(StoreError::corrupt(what, expected, format!("one with {said:08x}")));
    }
    let claimed = u64_at(&trailer, 8);
    if claimed != length {
        let expected = format!("{claimed} bytes as its trailer says");
        return Err(StoreError::corrupt(what, expected, format!("{length} bytes")));
    }
    Ok(())
}

/// Reads and verifies a section of a blob whose file has this length, and the blob's header.
pub fn read<I: Read + Seek + ?Sized>(
    what: &str,
    section: &Section,
    length: u64,
    input: &mut I,
) -> Result<Vec<u8>, StoreError> {
    let Section { offset, length: wanted, .. } = *section;
    let end = offset.checked_add(wanted).and_then(|end| end.checked_add(TRAILER as u64));
    if offset < HEADER as u64 || end.is_none_or(|end| end > length) {
        let expected = format!("a section of {wanted} bytes at {offset}, and a trailer after it");
        return Err(StoreError::corrupt(what, expected, format!("{length} bytes")));
    }
    let header: [u8; HEADER] = read_array(what, input)?;
    check_header(what, section.blob, &header)?;
    let mut bytes = Vec::new();
    let size = usize::try_from(wanted).ok().filter(|&size| bytes.try_reserve_exact(size).is_ok());
    let Some(size) = size else {
        let expected = format!("a section that fits into memory at {offset}");
        return Err(StoreError::corrupt(what, expected, format!("{wanted} bytes")));
    };
    input.seek(SeekFrom::Start(offset)).map_err(|error| reading(what, error))?;
    input.take(wanted).read_to_end(&mut bytes).map_err(|error| reading(what, error))?;
    if bytes.len() != size {
        return Err(StoreError::corrupt(what, "as many bytes as its length says", "fewer"));
    }
    let found = checksum(&[&bytes]);
    if found != section.checksum {
        let expected = format!("{wanted} bytes at {offset} with checksum {:08x}", section.checksum);
        return Err(StoreError::corrupt(what, expected, format!("bytes with {found:08x}")));
    }
    Ok(bytes)
}

fn read_array<const N: usize, I: Read + ?Sized>(
    what: &str,
    input: &mut I,
) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    read_exact(what, input, &mut bytes)?;
    Ok(bytes)
}

fn read_exact<I: Read + ?Sized>(
    what: &str,
    input: &mut I,
    bytes: &mut [u8],
) -> Result<(), StoreError> {
    input.read_exact(bytes).map_err(|error| reading(what, error))
}

fn reading(what: &str, error: std::io::Error) -> StoreError {
    if error.kind() == ErrorKind::UnexpectedEof {
        return StoreError::corrupt(what, "as many bytes as its length says", "fewer");
    }
    StoreError::io(format!("reading {what}"), error)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use snapline_protocol::ids::{Attempt, CheckpointId, SubtaskId, Term};

    use super::*;

    fn id(subtask: u16) -> BlobId {
        let attempt = Attempt { term: Term::new(3), number: 1 };
        BlobId { checkpoint: CheckpointId::FIRST, attempt, subtask: SubtaskId::new(subtask) }
    }

    fn encode(id: BlobId, sections: &[&[u8]]) -> (Vec<u8>, Vec<Section>, BlobRef) {
        let (mut encoder, header) = Encoder::new(id);
        let mut bytes = header.to_vec();
        let mut noted = Vec::new();
        for section in sections {
            noted.push(encoder.section(section));
            bytes.extend_from_slice(section);
        }
        let (trailer, length) = encoder.finish();
        bytes.extend_from_slice(&trailer);
        assert_eq!(length, bytes.len() as u64);
        (bytes, noted, BlobRef { id, length })
    }

    fn verified(blob: &BlobRef, bytes: &[u8]) -> Result<(), StoreError> {
        verify("it", blob, bytes.len() as u64, &mut Cursor::new(bytes))
    }

    fn section(section: &Section, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        read("it", section, bytes.len() as u64, &mut Cursor::new(bytes))
    }

    #[test]
    fn every_flipped_bit_truncation_and_extension_is_detected() {
        let (bytes, sections, blob) = encode(id(5), &[b"first", b"", b"second section"]);
        verified(&blob, &bytes).expect("it is whole");
        assert_eq!(section(&sections[2], &bytes).expect("it is whole"), b"second section");
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let error = verified(&blob, &wrong).expect_err("a bit is wrong");
            assert!(matches!(error, StoreError::Corrupt { .. }), "bit {bit}: {error}");
            // A section is read with the header: damage to one of the two is seen by it alone.
            let at = (bit / 8) as u64;
            let second = &sections[2];
            let covers =
                at < HEADER as u64 || (second.offset..second.offset + second.length).contains(&at);
            assert_eq!(section(second, &wrong).is_err(), covers, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(verified(&blob, &bytes[..length]).is_err(), "cut to {length}");
            let cut = BlobRef { length: length as u64, ..blob };
            assert!(verified(&cut, &bytes[..length]).is_err(), "cut to {length}, and known so");
        }
        assert!(verified(&blob, &[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn another_blob_under_the_name_is_detected() {
        let (bytes, sections, _) = encode(id(5), &[b"bytes"]);
        let other = BlobRef { id: id(6), length: bytes.len() as u64 };
        let error = verified(&other, &bytes).expect_err("it is another");
        assert!(error.to_string().contains("-s5"), "{error}");
        let moved = Section { blob: id(6), ..sections[0] };
        assert!(section(&moved, &bytes).is_err());
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let (mut bytes, _, blob) = encode(id(5), &[]);
        bytes[..HEADER].copy_from_slice(&header(id(5), 2));
        let error = verified(&blob, &bytes).expect_err("this build does not know it");
        assert!(matches!(error, StoreError::Version { found: 2, known: 1, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_section_of_any_bytes_is_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            offset in prop_oneof![0..200_u64, any::<u64>()],
            length in prop_oneof![0..200_u64, any::<u64>()],
        ) {
            let wanted = Section { blob: id(5), offset, length, checksum: 0 };
            prop_assert!(section(&wanted, &bytes).is_err());
            let blob = BlobRef { id: id(5), length: bytes.len() as u64 };
            prop_assert!(verified(&blob, &bytes).is_err());
        }
    }
}
