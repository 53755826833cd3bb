//! Locks on the operating system's files, and how long a wait for one lasts.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::process;
use std::time::{Duration, Instant};

use crate::base::sync::nap;
use crate::fs::LockFile;

/// How long to wait for a lock that another process holds. It is held for a few writes; a disk that
/// takes longer for them needs attention.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The factor by which the wait is longer while this process holds it: many subtasks take it in
/// turn, and a watch covers those that hang.
const OURS: u32 = 20;

/// Tries until it is locked, but only this long after another process was first seen to hold it
/// exclusively.
fn patiently(
    file: &File,
    patience: Duration,
    try_lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> io::Result<()> {
    let begin = Instant::now();
    let (mut since, mut looked) = (begin, begin);
    let mut pause = Duration::from_millis(1);
    loop {
        match try_lock(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let now = Instant::now();
        if now - looked >= patience / 30 {
            looked = now;
            let holder = lock_holder(file);
            if holder == Some(u64::from(process::id())) && now - begin < patience * OURS {
                since = now;
            }
            if now - since >= patience {
                let who = holder.map_or_else(
                    || "another process".to_owned(),
                    |process| format!("process {process}"),
                );
                let why = format!("{who} has kept it locked for {} s", (now - begin).as_secs());
                return Err(io::Error::new(ErrorKind::TimedOut, why));
            }
        }
        nap(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The process that holds a lock on a file, where the system reports it.
#[cfg(unix)]
fn lock_holder(file: &File) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, found.dev(), found.ino(), process::id().into())
}

/// The process that holds a lock on a file of this device and number, in Linux's list of all locks.
/// Some file systems call their device otherwise there (Btrfs): then only this process's own locks
/// are known.
#[cfg(unix)]
fn holder_in(locks: &str, device: u64, inode: u64, mine: u64) -> Option<u64> {
    let major = (device >> 8) & 0xfff | (device >> 32) & 0xffff_f000;
    let minor = device & 0xff | (device >> 12) & 0xffff_ff00;
    let (inode, file) = (format!(":{inode}"), format!("{major:02x}:{minor:02x}:{inode}"));
    // `1: FLOCK  ADVISORY  WRITE 4711 fd:01:1234 0 EOF`; a waiting one has `->` before the kind.
    let mut holders = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[_, "FLOCK", _, _, process, id, ..] = &*words else { return None };
        let process = process.parse().ok()?;
        (id == file || (id.ends_with(&inode) && process == mine)).then_some(process)
    });
    holders.next()
}

#[cfg(not(unix))]
fn lock_holder(_: &File) -> Option<u64> {
    None
}

impl LockFile for File {
    fn lock(&self) -> io::Result<()> {
        patiently(self, LOCK_TIMEOUT, Self::try_lock)
    }

    fn lock_shared(&self) -> io::Result<()> {
        patiently(self, LOCK_TIMEOUT, Self::try_lock_shared)
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }
}

#[cfg(all(test, unix, not(snapline_loom)))]
mod tests {
    use super::*;
    use crate::fs::{Disk, Files};

    #[test]
    fn a_lock_is_not_waited_for_for_ever_and_its_holder_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("lock");
        let _holder = Disk.open_lock(&path).and_then(|file| file.lock().map(|()| file));
        let file = File::open(&path).expect("it is there");
        for shared in [false, true] {
            let try_lock =
                |file: &File| if shared { file.try_lock_shared() } else { file.try_lock() };
            let error =
                patiently(&file, Duration::from_millis(20), try_lock).expect_err("it is held");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let me = format!("process {}", process::id());
            let text = error.to_string();
            // The system reports the holder, so the error names it.
            let who = if lock_holder(&file).is_some() { &me } else { "another process" };
            assert!(text.starts_with(&format!("{who} has kept it locked for ")), "{text}");
        }
    }

    #[test]
    fn a_lock_that_the_process_itself_holds_is_waited_for_for_longer() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("lock");
        let holder = File::create(&path).expect("makes");
        holder.try_lock().expect("it is free");
        if lock_holder(&holder).is_none() {
            // The system does not report the holder.
            return;
        }
        let (patience, begin) = (Duration::from_millis(300), Instant::now());
        let refused = || Err(TryLockError::WouldBlock);
        let try_lock = |_: &File| if begin.elapsed() < patience * 2 { refused() } else { Ok(()) };
        patiently(&holder, patience, try_lock).expect("it is free in time");
    }

    #[test]
    fn the_holder_of_a_file_of_another_device_is_none_of_this_one() {
        let locks = "\
            1: POSIX  ADVISORY  WRITE 11 fd:01:1234 0 EOF\n\
            2: FLOCK  ADVISORY  WRITE 12 08:02:1234 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 13 fd:01:1234 0 EOF\n\
            3: FLOCK  ADVISORY  WRITE 14 fd:01:11234 0 EOF\n\
            4: FLOCK  ADVISORY  WRITE 15 fd:01:1234 0 EOF\n\
            5: FLOCK  ADVISORY  READ 16 103:1ff:1234 0 EOF\n";
        for (device, mine, holder) in [
            (0xfd01, 1, Some(15)),
            (0x0802, 1, Some(12)),
            (0x0803, 1, None),
            (0x0803, 16, Some(16)),
            (0x11_03ff, 1, Some(16)),
            (0x10_03ff, 1, None),
        ] {
            assert_eq!(holder_in(locks, device, 1234, mine), holder, "{device:x} {mine}");
        }
    }
}
