//! The log: accepted records on the disk, in the order of acceptance.
//!
//! ```text
//!   orders/
//!     owner                      held by the process that writes here
//!     identity                   a random name, by which positions know the log; made if missing
//!     lock                       held for a moment to look at `owner`, or to take it
//!     00000000000000000000.log   a segment, by the number of its first record
//!     00000000000000004711.log
//!
//!   a segment   the words `snapline ingest 2` and an end of line, the mark (8 bytes), the checksum
//!               of both (4), then frames
//!   a frame     the segment's mark (8 bytes), length of what follows (4), its checksum (4), then:
//!               kind (1), number of the first record (8), up to which record all was durable
//!               before (8), number of records (4), length of the key (2), the key, and each record
//!               with its length (4) before it; all numbers the lowest byte first
//! ```
//! The mark is drawn at random for each segment. After a frame that is not whole, further frames
//! are searched for by the mark. A client's data may hold everything else that makes a frame, but
//! not the mark, which the client cannot know. Segments of version 1, `snapline ingest 1`, have no
//! mark, neither at the beginning nor before their frames. They are read, but no longer written.
//!
//! A frame holds one request: whole, or not at all. A segment ends where the next begins, or with
//! the first frame that is not whole. The bytes after that were never acknowledged; they are cut
//! off when a write fails and when the log is opened. Then the last frames that were written
//! together are rewritten in their place: no later frame confirms that they were durable. Each life
//! of a process begins a segment of its own, and so does a write after a failed one. So nothing is
//! ever written after a torn frame. A frame that is not whole before one that says that it was
//! durable is damage, not a torn end, and is reported.
//!
//! Longer than 500 lines: one format, and all that writes and reads it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::IngestError;
use snapline_core::base::random::random;
use snapline_core::base::sync::{Arc, Mutex, lock};
use snapline_core::fs::{Files, Input, Kind, Output};

/// The beginning of a segment.
const MAGIC: &[u8; 18] = b"snapline ingest 2\n";

/// The beginning of a segment of version 1.
const MAGIC_1: &[u8; 18] = b"snapline ingest 1\n";

/// Bytes before the frames of a segment: those words, its mark, and the checksum of both.
const BEGIN: usize = MAGIC.len() + MARK + 4;

/// The length of a mark in bytes.
const MARK: usize = 8;

/// The greatest length of a frame: one that claims more is torn, and a request that needs more is
/// not accepted.
const LONGEST: usize = 1 << 30;

/// The bound of record numbers. At a billion a second it is not reached in a hundred years, and
/// sums with a number do not overflow.
const RECORDS_END: u64 = 1 << 62;

/// Length and checksum of a frame.
const HEAD: usize = 8;

/// Keys in one frame: far fewer than would make it too long to be read.
const KEYS: usize = 8192;

/// The bytes that the frames of a segment begin with: its mark; nothing in version 1.
type Mark = Option<[u8; MARK]>;

/// The kind of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FrameKind {
    /// Records.
    Records = 0,
    /// Nothing more will be accepted.
    End = 1,
    /// Keys of earlier segments, with what was accepted under them.
    Keys = 2,
}

/// One request's records.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct LogBatch {
    /// The key by which a repeated request is recognised.
    pub(super) key: Option<String>,
    pub(super) records: Vec<Vec<u8>>,
}

/// The result of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepted {
    /// The request is in the log.
    New { first: u64, records: u64 },
    /// It was there before the request.
    Again { first: u64, records: u64 },
    /// The request's key already stands for something else.
    OtherBody,
    /// The request exceeds a frame.
    TooLong,
}

/// The request accepted under a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct AcceptedKey {
    first: u64,
    records: u64,
    /// The checksum of the records.
    sum: u32,
}

/// The newest keys.
struct Keys {
    most: usize,
    known: HashMap<String, AcceptedKey>,
    order: VecDeque<String>,
}

impl Keys {
    fn add(&mut self, key: String, seen: AcceptedKey) {
        if self.most == 0 || self.known.insert(key.clone(), seen).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The bodies of frames that hold all of them.
    fn bodies(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut keys = self.order.iter().filter_map(|key| Some((key, *self.known.get(key)?)));
        std::iter::from_fn(move || {
            let some: Vec<(&String, AcceptedKey)> = keys.by_ref().take(KEYS).collect();
            let body = || rmp_serde::to_vec(&some).expect("texts and numbers can be written");
            (!some.is_empty()).then(body)
        })
    }
}

/// Where a segment is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LogSegment {
    pub(super) first: u64,
    pub(super) bytes: u64,
}

/// The state of the log that readers see.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) segments: VecDeque<LogSegment>,
    /// The number of the next record. All before are durable.
    pub(super) next: u64,
    pub(super) ended: bool,
    /// The reason why the writing or the serving thread ended, if it did so by itself.
    pub(super) broken: Option<String>,
    /// The record from which each reader may still be restored. A reader without an entry may be
    /// restored from its beginning.
    pub(super) needed: HashMap<(String, String, usize), u64>,
}

/// State that readers and the writer share.
pub(super) struct Shelf {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    /// The identity by which this log differs from another put in its place.
    pub(super) identity: String,
    pub(super) extent: Mutex<Extent>,
    /// Held while segments are removed, for as long as the disk takes.
    forgets: Mutex<()>,
}

impl Shelf {
    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.dir.join(segment_name(first))
    }

    /// Records that acceptance has ended by itself: otherwise readers would wait forever.
    pub(super) fn breaks(&self, what: &str) {
        tracing::error!(directory = %self.dir.display(), %what, "no records are accepted any more");
        lock(&self.extent).broken.get_or_insert_with(|| what.to_owned());
    }

    /// The number of bytes kept.
    pub(super) fn bytes(&self) -> u64 {
        lock(&self.extent).segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Removes segments that no reader can be restored into any more. The newest stays. Appends do
    /// not wait meanwhile.
    pub(super) fn forget(&self) {
        let _one_at_a_time = lock(&self.forgets);
        while let Some(segment) = self.take_unneeded() {
            let path = self.path(segment.first);
            // Each removal is durable before the next: if the earlier file came back and this one
            // were gone, the log would have a hole.
            let synced =
                self.files.stir(&self.dir).and_then(|()| self.files.sync_directory(&self.dir));
            if let Err(error) = synced.and_then(|()| self.files.remove(&path)) {
                tracing::warn!(
                    file = %path.display(), %error,
                    "cannot remove a part of the log that is no longer needed"
                );
                // It is still there, and is removed the next time.
                lock(&self.extent).segments.push_front(segment);
                return;
            }
        }
    }

    /// Takes the oldest segment from the readers, if none needs it. This happens before its file is
    /// removed, so that no reader begins in it meanwhile.
    fn take_unneeded(&self) -> Option<LogSegment> {
        let mut extent = lock(&self.extent);
        let needed = *extent.needed.values().min()?;
        let following = extent.segments.get(1)?;
        if following.first <= needed { extent.segments.pop_front() } else { None }
    }
}

/// Writes the log. There is one per directory.
pub(super) struct Log {
    shelf: Arc<Shelf>,
    keys: Keys,
    /// The length after which a segment is followed by another.
    segment_bytes: u64,
    /// The segment being written, and its length; `None` if a write has failed.
    out: Option<(Box<dyn Output>, u64)>,
    /// The mark of the segment being written.
    mark: [u8; MARK],
    /// The lock on the directory.
    _owner: Box<dyn Send>,
}

impl Log {
    /// Opens the log of a directory, which is made if it is not there.
    pub(super) fn open(
        files: Arc<dyn Files>,
        dir: &Path,
        segment_bytes: u64,
        most_keys: usize,
    ) -> Result<Self, IngestError> {
        make(&*files, dir)?;
        files.check_owner(dir).map_err(IngestError::io("use", dir))?;
        let owner = own(&*files, dir)?;
        let identity = identity(&*files, dir)?;
        let names = files.list(dir).map_err(IngestError::io("list", dir))?;
        for name in names.iter().filter(|name| number_of(name, ".new").is_some()) {
            // A file that was being begun. If it stays, it is only in the way of its namesake,
            // which reports it.
            let _ = files.remove(&dir.join(name));
        }
        let mut firsts: Vec<u64> =
            names.iter().filter_map(|name| number_of(name, ".log")).collect();
        firsts.sort_unstable();
        let keys = Keys { most: most_keys, known: HashMap::new(), order: VecDeque::new() };
        let (segments, needed) = (VecDeque::new(), HashMap::new());
        let next = firsts.first().copied().unwrap_or(0);
        let extent = Extent { segments, next, ended: false, broken: None, needed };
        let (dir, extent, forgets) = (dir.to_owned(), Mutex::new(extent), Mutex::new(()));
        let shelf = Arc::new(Shelf { files, dir, identity, extent, forgets });
        let mut log =
            Self { shelf, keys, segment_bytes, out: None, mark: [0; MARK], _owner: owner };
        for (place, &first) in firsts.iter().enumerate() {
            let end = firsts.get(place + 1).copied();
            log.scan(first, end)?;
        }
        match log.begin() {
            // Present records can be read, and removed when they are not needed any more: then
            // there is room again.
            Err(error) if error.is_for_want_of_room() => {
                tracing::warn!(%error, "no records can be accepted until there is room");
            }
            begun => begun?,
        }
        Ok(log)
    }

    pub(super) const fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Takes in an existing segment.
    fn scan(&mut self, first: u64, end: Option<u64>) -> Result<(), IngestError> {
        let path = self.shelf.path(first);
        let failed = |doing| IngestError::io(doing, &path);
        if first >= RECORDS_END {
            let why = format!("no log has a record {first}");
            return Err(IngestError::Damaged { path, why });
        }
        let mut extent = lock(&self.shelf.extent);
        if extent.next != first {
            // A segment that ends too early was reported above.
            let why = format!("record {first} is in the file before it too");
            return Err(IngestError::Damaged { path, why });
        }
        let mut frames = LogFrames::open(&*self.shelf.files, &path)?;
        let (head, mut bytes) = (frames.head() as u64, frames.at);
        let mut last = Group { at: bytes, durable: 0, frames: Vec::new() };
        while let Some(frame) = frames.next(&path)? {
            if end.is_some_and(|end| frame.first >= end) {
                break;
            }
            if frame.durable > last.durable {
                last = Group { at: bytes, durable: frame.durable, frames: Vec::new() };
            }
            bytes += frame.bytes.len() as u64 + head;
            match frame.what {
                FrameKind::Records => {
                    if frame.first != extent.next {
                        let why = format!(
                            "record {} is where record {} was written",
                            frame.first, extent.next
                        );
                        return Err(IngestError::Damaged { path, why });
                    }
                    // It fits: every frame that is read does.
                    extent.next += frame.count;
                    if let Some(key) = frame.key() {
                        let sum = crc32fast::hash(frame.body());
                        let seen = AcceptedKey { first: frame.first, records: frame.count, sum };
                        self.keys.add(key.to_owned(), seen);
                    }
                }
                FrameKind::End => extent.ended = true,
                FrameKind::Keys => {
                    let keys: Vec<(String, AcceptedKey)> = rmp_serde::from_slice(frame.body())
                        .map_err(|error| IngestError::Damaged {
                            path: path.clone(),
                            why: format!("its keys cannot be read: {error}"),
                        })?;
                    keys.into_iter().for_each(|(key, seen)| self.keys.add(key, seen));
                }
            }
            last.frames.push(frame.bytes);
        }
        if frames.claimed(&path, extent.next)? > extent.next {
            let why = format!("record {} was durable, and cannot be read", extent.next);
            return Err(IngestError::Damaged { path, why });
        }
        if let Some(end) = end.filter(|&end| end > extent.next) {
            let why =
                format!("it ends before record {}, and the next file begins at {end}", extent.next);
            return Err(IngestError::Damaged { path, why });
        }
        // Only the newest can hold what is not durable (see `begin`).
        if end.is_none() {
            last.renew(&*self.shelf.files, &path, frames.mark).map_err(failed("write again"))?;
            // Its name too. This life changed the directory when it took it.
            let dir = &self.shelf.dir;
            self.shelf.files.sync_directory(dir).map_err(IngestError::io("sync", dir))?;
        }
        if extent.next > first || extent.ended {
            extent.segments.push_back(LogSegment { first, bytes });
        }
        drop(extent);
        let length = self.shelf.files.length(&path).map_err(failed("inspect"))?;
        if length.is_some_and(|length| length > bytes) {
            let cut = self.shelf.files.append(&path).and_then(|mut file| {
                file.cut(bytes)?;
                file.sync()
            });
            if let Err(error) = cut {
                // It is left as it is.
                tracing::warn!(
                    file = %path.display(), %error,
                    "cannot cut off the torn end of a part of the log"
                );
            }
        }
        Ok(())
    }

    /// Begins a segment.
    fn begin(&mut self) -> Result<(), IngestError> {
        let (first, ended) = {
            let extent = lock(&self.shelf.extent);
            (extent.next, extent.ended)
        };
        if ended {
            return Ok(());
        }
        let (files, path) = (&self.shelf.files, self.shelf.path(first));
        let failed = |doing| IngestError::io(doing, &path);
        // A segment in which nothing was accepted may have the name: the rest of a failed write, or
        // of a life without a request. A whole one replaces it: it may be the only one with the
        // next record's number and the known keys.
        let new = path.with_extension("new");
        match files.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("remove")(error));
            }
            _ => {}
        }
        let mut out = files.create(&new).map_err(failed("make"))?;
        self.mark = random().to_le_bytes();
        let mut bytes = [&MAGIC[..], &self.mark].concat();
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        // A write of its own, so that it is there if anything follows it.
        out.write(&bytes).and_then(|()| out.sync()).map_err(failed("write to"))?;
        let mut length = bytes.len() as u64;
        for body in self.keys.bodies() {
            bytes.clear();
            frame(&mut bytes, self.mark, FrameKind::Keys, (first, first), 0, "", &body);
            out.write(&bytes).map_err(failed("write to"))?;
            length += bytes.len() as u64;
        }
        if length > BEGIN as u64 {
            out.sync().map_err(failed("write to"))?;
        }
        files.rename(&new, &path).map_err(failed("name"))?;
        files.sync_directory(&self.shelf.dir).map_err(IngestError::io("sync", &self.shelf.dir))?;
        let mut extent = lock(&self.shelf.extent);
        extent.segments.retain(|segment| segment.first != first);
        extent.segments.push_back(LogSegment { first, bytes: length });
        self.out = Some((out, length));
        Ok(())
    }

    /// Appends the records of some requests, and makes them durable together. If that fails, none
    /// is accepted, though some may turn up when the log is opened again.
    pub(super) fn append(&mut self, batches: Vec<LogBatch>) -> Result<Vec<Accepted>, IngestError> {
        if lock(&self.shelf.extent).ended {
            return Err(IngestError::Ended { dir: self.shelf.dir.clone() });
        }
        if self.out.as_ref().is_none_or(|(_, length)| *length >= self.segment_bytes) {
            self.out = None;
            self.begin()?;
        }
        let mut next = lock(&self.shelf.extent).next;
        let durable = next;
        let (mut bytes, mut answers, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for LogBatch { key, records } in batches {
            let mut body = Vec::new();
            for record in &records {
                body.extend_from_slice(&(record.len() as u32).to_le_bytes());
                body.extend_from_slice(record);
            }
            let name = key.as_deref().unwrap_or("");
            // A record is part of the body, and there are at most as many records as bytes.
            if body.len() + name.len() + FIXED > LONGEST || name.len() > usize::from(u16::MAX) {
                answers.push(Accepted::TooLong);
                continue;
            }
            let sum = crc32fast::hash(&body);
            let count = records.len() as u64;
            if let Some(key) = &key {
                let beside = || added.iter().rev().find(|(it, _)| it == key).map(|(_, seen)| seen);
                let seen: Option<&AcceptedKey> = self.keys.known.get(key).or_else(beside);
                if let Some(&AcceptedKey { first, records, sum: before }) = seen {
                    answers.push(match (records, before) == (count, sum) {
                        true => Accepted::Again { first, records },
                        false => Accepted::OtherBody,
                    });
                    continue;
                }
            }
            frame(
                &mut bytes,
                self.mark,
                FrameKind::Records,
                (next, durable),
                count,
                key.as_deref().unwrap_or(""),
                &body,
            );
            answers.push(Accepted::New { first: next, records: count });
            added.extend(key.map(|key| (key, AcceptedKey { first: next, records: count, sum })));
            next += count;
        }
        self.write(&bytes)?;
        lock(&self.shelf.extent).next = next;
        added.into_iter().for_each(|(key, seen)| self.keys.add(key, seen));
        Ok(answers)
    }

    /// Accepts nothing more, in this life or another.
    pub(super) fn end(&mut self) -> Result<(), IngestError> {
        if lock(&self.shelf.extent).ended {
            return Ok(());
        }
        if self.out.is_none() {
            self.begin()?;
        }
        let next = lock(&self.shelf.extent).next;
        let mut bytes = Vec::new();
        frame(&mut bytes, self.mark, FrameKind::End, (next, next), 0, "", &[]);
        self.write(&bytes)?;
        lock(&self.shelf.extent).ended = true;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Invariant: the callers have begun a segment.
        let (out, length) = self.out.as_mut().expect("a segment was begun");
        match out.write(bytes).and_then(|()| out.sync()) {
            Ok(()) => {
                *length += bytes.len() as u64;
                let length = *length;
                if let Some(segment) = lock(&self.shelf.extent).segments.back_mut() {
                    segment.bytes = length;
                }
                Ok(())
            }
            Err(error) => {
                // The file's content is now unknown, and a repeated sync may lie: the next frame
                // goes into another file.
                let _unknown = out.cut(*length);
                self.out = None;
                let path = self.shelf.path(lock(&self.shelf.extent).next);
                Err(IngestError::io("write to", &path)(error))
            }
        }
    }
}

/// The last frames of a segment that were written together: those after the durable point that the
/// last of them records.
struct Group {
    /// Where they begin in the file.
    at: u64,
    durable: u64,
    frames: Vec<Vec<u8>>,
}

impl Group {
    /// Makes them durable. Frames that another life wrote and did not sync were read, and must be
    /// there when they are read again. Opening and syncing the file is not enough: bytes that
    /// failed to reach the disk while it was open there may be skipped. So the same bytes are
    /// rewritten in their place, which takes no room.
    fn renew(self, files: &dyn Files, path: &Path, mark: Mark) -> io::Result<()> {
        let mut bytes = Vec::new();
        for frame in self.frames {
            bytes.extend(mark.into_iter().flatten());
            bytes.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(&frame).to_le_bytes());
            bytes.extend_from_slice(&frame);
        }
        if bytes.is_empty() { Ok(()) } else { files.rewrite(path, self.at, &bytes) }
    }
}

fn make(files: &dyn Files, dir: &Path) -> Result<(), IngestError> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let above = parent.unwrap_or_else(|| Path::new("."));
    match files.kind(dir).map_err(IngestError::io("inspect", dir))? {
        Kind::Directory if dir.parent().is_none() => return Ok(()),
        // The process that made it may have died before its name was durable.
        Kind::Directory => {
            // Or it failed to make it so. This process may not own the directory.
            let _ = files.stir(above);
            return match files.sync_directory(above) {
                // The directory belongs to another user, who made the name.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
                synced => synced.map_err(IngestError::io("sync", above)),
            };
        }
        Kind::File(_) => {
            let error = io::Error::from(ErrorKind::NotADirectory);
            return Err(IngestError::io("make", dir)(error));
        }
        Kind::Nothing => {}
    }
    if let Some(parent) = parent {
        make(files, parent)?;
    }
    files.make_directory(dir).map_err(IngestError::io("make", dir))?;
    files.sync_directory(above).map_err(IngestError::io("sync", above))
}

/// Takes the directory for this process.
fn own(files: &dyn Files, dir: &Path) -> Result<Box<dyn Send>, IngestError> {
    let (path, door) = (dir.join("owner"), dir.join("lock"));
    // One at a time: if two look at once and find no owner, the later would remove the file of the
    // earlier.
    let locked = files.open_lock(&door).and_then(|file| file.lock().map(|()| file));
    let _locked = locked.map_err(IngestError::io("lock", &door))?;
    if let Some(holder) = files.holder(&path).map_err(IngestError::io("inspect", &path))? {
        return Err(IngestError::InUse { dir: dir.to_owned(), holder });
    }
    match files.remove(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(IngestError::io("remove", &path)(error));
        }
        _ => {}
    }
    let text = format!("process {}", std::process::id());
    files.register(&path, &text).map_err(IngestError::io("make", &path))
}

/// The log's name, drawn at random if there is none.
fn identity(files: &dyn Files, dir: &Path) -> Result<String, IngestError> {
    let (path, new) = (dir.join("identity"), dir.join("identity.new"));
    let mut text = String::new();
    match files.open(&path).and_then(|file| file.take(64).read_to_string(&mut text)) {
        Ok(_) => {
            let text = text.trim_end();
            if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                let why = "it does not hold the name of a log".into();
                return Err(IngestError::Damaged { path, why });
            }
            return Ok(text.to_owned());
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(IngestError::io("read", &path)(error));
        }
        Err(_) => {}
    }
    let text = files.identity();
    let write = || {
        match files.remove(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = files.create(&new)?;
        file.write(format!("{text}\n").as_bytes())?;
        file.sync()?;
        files.rename(&new, &path)?;
        files.sync_directory(dir)
    };
    write().map_err(IngestError::io("make", &path))?;
    Ok(text)
}

/// The number in a file name with this ending; a number spelled otherwise is not ours.
fn number_of(name: &str, end: &str) -> Option<u64> {
    let number = name.strip_suffix(end)?.parse().ok()?;
    (file_name(number, end) == name).then_some(number)
}

fn file_name(number: u64, end: &str) -> String {
    format!("{number:020}{end}")
}

fn segment_name(first: u64) -> String {
    file_name(first, ".log")
}

fn frame(
    out: &mut Vec<u8>,
    mark: [u8; MARK],
    what: FrameKind,
    (first, durable): (u64, u64),
    count: u64,
    key: &str,
    body: &[u8],
) {
    out.extend_from_slice(&mark);
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(what as u8);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&(count as u32).to_le_bytes());
    // The length of a key is bounded on arrival.
    out.extend_from_slice(&(key.len() as u16).to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(body);
    let (length, sum) = (out.len() - begin - HEAD, crc32fast::hash(&out[begin + HEAD..]));
    out[begin..begin + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[begin + 4..begin + HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// A frame that was read.
struct LogFrame {
    what: FrameKind,
    first: u64,
    durable: u64,
    count: u64,
    bytes: Vec<u8>,
    key: usize,
}

/// Bytes of a frame before its key.
const FIXED: usize = 23;

impl LogFrame {
    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let what = match bytes.first()? {
            0 => FrameKind::Records,
            1 => FrameKind::End,
            2 => FrameKind::Keys,
            _ => return None,
        };
        let first = u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?);
        let durable = u64::from_le_bytes(bytes.get(9..17)?.try_into().ok()?);
        let count = u32::from_le_bytes(bytes.get(17..21)?.try_into().ok()?).into();
        let key = usize::from(u16::from_le_bytes(bytes.get(21..FIXED)?.try_into().ok()?));
        bytes.get(FIXED..FIXED + key)?;
        let frame = Self { what, first, durable, count, bytes, key };
        frame.fits().then_some(frame)
    }

    /// True if its number of records is right and all of it is used.
    fn fits(&self) -> bool {
        if self.what != FrameKind::Records {
            return self.count == 0;
        }
        let (mut rest, mut records) = (self.body(), 0);
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let Some(behind) = behind.get(u32::from_le_bytes(*length) as usize..) else {
                return false;
            };
            (rest, records) = (behind, records + 1);
        }
        let end = self.first.checked_add(self.count).filter(|&end| end <= RECORDS_END);
        rest.is_empty() && records == self.count && self.durable <= self.first && end.is_some()
    }

    fn key(&self) -> Option<&str> {
        let key = &self.bytes[FIXED..FIXED + self.key];
        std::str::from_utf8(key).ok().filter(|key| !key.is_empty())
    }

    fn body(&self) -> &[u8] {
        &self.bytes[FIXED + self.key..]
    }
}

/// The checksums of all parts of some bytes: each at the same small cost, whatever its length.
struct Sums<'a> {
    bytes: &'a [u8],
    /// The sums of the bytes before each multiple of [`Sums::STEP`].
    before: Vec<u32>,
}

impl<'a> Sums<'a> {
    const STEP: usize = 256;

    fn new(bytes: &'a [u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        let sum_behind = |step: &[u8]| {
            hasher.update(step);
            hasher.clone().finalize()
        };
        let behind = bytes.chunks(Self::STEP).map(sum_behind);
        let before = std::iter::once(crc32fast::hash(&[])).chain(behind).collect();
        Self { bytes, before }
    }

    /// The sum of the bytes before `end`.
    fn up_to(&self, end: usize) -> u32 {
        let step = end / Self::STEP;
        let mut hasher = crc32fast::Hasher::new_with_initial(self.before[step]);
        hasher.update(&self.bytes[step * Self::STEP..end]);
        hasher.finalize()
    }

    fn of(&self, begin: usize, end: usize) -> u32 {
        // The sum of two parts: the first part's sum, advanced by the second part's length, xor the
        // second part's sum.
        let mut moved = crc32fast::Hasher::new_with_initial_len(self.up_to(begin), begin as u64);
        let nothing = crc32fast::Hasher::new_with_initial_len(0, (end - begin) as u64);
        moved.combine(&nothing);
        moved.finalize() ^ self.up_to(end)
    }
}

/// The frames that are whole anywhere in these bytes, each with its place.
fn everywhere(bytes: &[u8], mark: Mark) -> Vec<(usize, LogFrame)> {
    let sums = Sums::new(bytes);
    let whole = |at: usize| {
        let (length, rest) = bytes[at..].split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let frame = rest.get(..length).filter(|frame| frame.len() >= FIXED)?;
        let begin = at + HEAD;
        // The cheapest test first: these bytes may be made to look like very many frames.
        let likely = frame[0] <= FrameKind::Keys as u8;
        let holds = likely && sums.of(begin, begin + length) == u32::from_le_bytes(*sum);
        holds.then(|| LogFrame::parse(frame.to_vec()))?.map(|frame| (at, frame))
    };
    let Some(mark) = mark else { return (0..bytes.len()).filter_map(whole).collect() };
    let places = bytes.windows(MARK).enumerate().filter(|(_, window)| **window == mark);
    places.filter_map(|(at, _)| whole(at + MARK)).collect()
}

/// Reads a segment's frames.
struct LogFrames {
    file: BufReader<Box<dyn Input>>,
    mark: Mark,
    /// The reader's place in the file.
    at: u64,
}

impl LogFrames {
    fn open(files: &dyn Files, path: &Path) -> Result<Self, IngestError> {
        let failed = || IngestError::io("read", path);
        let file = files.open(path).map_err(IngestError::io("open", path))?;
        let length = file.length().map_err(failed())?;
        let mut file = BufReader::with_capacity(64 * 1024, file);
        let mut begin = [0; BEGIN];
        let mut read = 0;
        while read < BEGIN {
            match file.read(&mut begin[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        let [words @ .., _, _, _, _] = &begin;
        let sum = crc32fast::hash(words).to_le_bytes();
        let known = begin.starts_with(MAGIC) && begin.ends_with(&sum);
        let mark = begin[MAGIC.len()..].first_chunk::<MARK>().copied().filter(|_| known);
        let at = if known { BEGIN } else { MAGIC.len() };
        let mut frames = Self { file, mark, at: at as u64 };
        let back = frames.file.seek(SeekFrom::Start(frames.at));
        back.map_err(failed())?;
        if !known && !begin.starts_with(MAGIC_1) {
            // The beginning is durable before anything is written after it. Without more, this is
            // only a file that was being begun.
            let ours = begin.starts_with(&MAGIC[..16]) && begin[16].is_ascii_digit();
            let ours = ours && length > BEGIN as u64;
            if ours || frames.any(path)? {
                let why = "it does not begin as a log does; is it of a later version?";
                return Err(IngestError::Damaged { path: path.to_owned(), why: why.into() });
            }
        }
        Ok(frames)
    }

    /// The length of a frame's mark, length and checksum.
    fn head(&self) -> usize {
        HEAD + self.mark.map_or(0, |mark| mark.len())
    }

    /// The frames that are whole anywhere after the current place, each with its distance from it.
    fn behind(&mut self, path: &Path) -> Result<Vec<(usize, LogFrame)>, IngestError> {
        let mut rest = Vec::new();
        let read = self.file.seek(SeekFrom::Start(self.at));
        read.and_then(|_| self.file.read_to_end(&mut rest))
            .map_err(IngestError::io("read", path))?;
        let found = everywhere(&rest, self.mark);
        let back = self.file.seek(SeekFrom::Start(self.at));
        back.map_err(IngestError::io("read", path))?;
        Ok(found)
    }

    /// The record up to which all was durable, according to frames after this place; `next` is the
    /// number of the next record here.
    fn claimed(&mut self, path: &Path, next: u64) -> Result<u64, IngestError> {
        // Without a mark it may be a client's data. If it claims more records than there is room
        // for, it certainly is.
        let could_be = |(at, frame): &(usize, LogFrame)| {
            frame.first.checked_sub(next).is_none_or(|records| records <= *at as u64 / 4)
        };
        let frames = self.behind(path)?;
        let frames = frames.iter().filter(|frame| could_be(frame));
        Ok(frames.map(|(_, frame)| frame.durable).max().unwrap_or(0))
    }

    fn any(&mut self, path: &Path) -> Result<bool, IngestError> {
        Ok(!self.behind(path)?.is_empty())
    }

    /// The next frame; `None` if none is whole.
    fn next(&mut self, path: &Path) -> Result<Option<LogFrame>, IngestError> {
        let mut mark = [0; MARK];
        if let Some(expected) = self.mark {
            let there = filled(&mut self.file, &mut mark).map_err(IngestError::io("read", path))?;
            if !there || mark != expected {
                return Ok(None);
            }
        }
        let mut head = [0; HEAD];
        if !filled(&mut self.file, &mut head).map_err(IngestError::io("read", path))? {
            return Ok(None);
        }
        let [a, b, c, d, e, f, g, h] = head;
        let (length, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        // Zeros in place of bytes not yet written have the checksum of nothing.
        if !(FIXED..=LONGEST).contains(&(length as usize)) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let limit = u64::from(length);
        let read = (&mut self.file).take(limit).read_to_end(&mut bytes);
        read.map_err(IngestError::io("read", path))?;
        if bytes.len() as u64 != limit || crc32fast::hash(&bytes) != sum {
            return Ok(None);
        }
        let Some(frame) = LogFrame::parse(bytes) else {
            let why = format!(
                "the frame at byte {} has the right checksum and impossible contents",
                self.at
            );
            return Err(IngestError::Damaged { path: path.to_owned(), why });
        };
        self.at += self.head() as u64 + limit;
        Ok(Some(frame))
    }
}

/// Fills the buffer; false if the file has fewer bytes.
fn filled(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads the log, beginning with a given record.
pub(super) struct Cursor {
    shelf: Arc<Shelf>,
    /// The segment that is open, by its first record.
    open: Option<(u64, LogFrames)>,
    /// The current frame, how much of its body was read, and the number of the record there.
    frame: Option<(LogFrame, usize, u64)>,
    /// The number of the next record in the frame.
    pub(super) next: u64,
}

impl Cursor {
    pub(super) fn new(shelf: &Arc<Shelf>, next: u64) -> Self {
        Self { shelf: Arc::clone(shelf), open: None, frame: None, next }
    }

    pub(super) const fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Calls back with each present record, its number first, as long as the callback wants more.
    /// Says whether the log has ended after the last.
    pub(super) fn read(
        &mut self,
        mut record: impl FnMut(u64, &[u8]) -> Result<bool, IngestError>,
    ) -> Result<Reached, IngestError> {
        loop {
            let (end, ended) = {
                let extent = lock(&self.shelf.extent);
                match &extent.broken {
                    // Accepted records are read all the same.
                    Some(what) if self.next >= extent.next && !extent.ended => {
                        let error = io::Error::other(what.clone());
                        return Err(IngestError::io("accept records into", &self.shelf.dir)(error));
                    }
                    _ => (extent.next, extent.ended),
                }
            };
            if self.next >= end {
                return Ok(if ended { Reached::Ended } else { Reached::All });
            }
            if self.frame.is_none() {
                self.advance()?;
            }
            let Some((frame, at, number)) = &mut self.frame else { continue };
            while *at < frame.body().len() {
                let body = frame.body();
                // Invariant: the frame is as it was written, its checksum says.
                let length = body[*at..].first_chunk::<4>().expect("a record has a length");
                let begin = *at + 4;
                let end = begin + u32::from_le_bytes(*length) as usize;
                let wants_more = *number < self.next || record(*number, &body[begin..end])?;
                *at = end;
                *number += 1;
                self.next = self.next.max(*number);
                if !wants_more {
                    return Ok(Reached::More);
                }
            }
            self.frame = None;
        }
    }

    /// Goes to the frame of the next record.
    fn advance(&mut self) -> Result<(), IngestError> {
        let (first, following) = {
            let extent = lock(&self.shelf.extent);
            let behind = extent.segments.partition_point(|segment| segment.first <= self.next);
            let Some(place) = behind.checked_sub(1) else {
                let first = extent.segments.front().map_or(extent.next, |segment| segment.first);
                let dir = self.shelf.dir.clone();
                return Err(IngestError::Gone { dir, wanted: self.next, first });
            };
            (extent.segments[place].first, extent.segments.get(place + 1).map(|it| it.first))
        };
        let path = self.shelf.path(first);
        if self.open.as_ref().is_none_or(|(open, _)| *open != first) {
            self.open = Some((first, LogFrames::open(&*self.shelf.files, &path)?));
        }
        let (_, frames) = self.open.as_mut().expect("it was opened above");
        loop {
            let at = frames.at;
            match frames.next(&path)? {
                Some(frame) if frame.what != FrameKind::Records => {}
                Some(frame) if frame.first + frame.count <= self.next => {}
                Some(frame) if following.is_none_or(|following| frame.first < following) => {
                    let number = frame.first;
                    self.frame = Some((frame, 0, number));
                    return Ok(());
                }
                _ => {
                    // It is durable, so it was here: the read-ahead buffer may be older than the
                    // file.
                    let (_, frames) = self.open.as_mut().expect("it was opened above");
                    let moved = frames.file.seek(SeekFrom::Start(at));
                    moved.map_err(IngestError::io("read", &path))?;
                    frames.at = at;
                    match frames.next(&path)? {
                        Some(frame) if frame.what == FrameKind::Records => {
                            let number = frame.first;
                            self.frame = Some((frame, 0, number));
                            return Ok(());
                        }
                        _ => {
                            let why =
                                format!("record {} was accepted, and is not there", self.next);
                            return Err(IngestError::Damaged { path, why });
                        }
                    }
                }
            }
        }
    }
}

/// The result of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reached {
    /// There may be more.
    More,
    /// Nothing more for now.
    All,
    /// There will never be more.
    Ended,
}

#[cfg(all(test, not(snapline_loom)))]
mod tests;
