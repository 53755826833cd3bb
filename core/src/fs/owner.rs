//! The owner of a directory, and whether it is shared.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::base::sync::nap;
use crate::fs::{STIR, private};

/// Fails if a directory is another's: see [`super::Files::check_owner`].
pub(super) fn check(directory: &Path) -> io::Result<()> {
    // The user of this process, where the system shows it as a directory's owner.
    let Ok(mine) = fs::metadata("/proc/self") else { return Ok(()) };
    let found = fs::metadata(directory)?;
    let owner = found.uid();
    if !is_foreign(owner, mine.uid()) {
        return Ok(());
    }
    let member = || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        groups(&status).contains(&found.gid())
    };
    if is_shared(found.mode()) && member() {
        return Ok(());
    }
    let made = owner_of_new(directory)?;
    if made == owner {
        return Ok(());
    }
    let why = format!(
        "it belongs to user {owner}, and what this process creates there belongs to user {made}; \
         run it as {owner}, give it a directory of its own, or share this directory, and all in \
         it, with a group of both (`chmod -R g+rwX,o-w`)"
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
}

/// Whether a directory of this owner is another user's, for a process of this user: `root` is
/// trusted, and trusts.
fn is_foreign(owner: u32, mine: u32) -> bool {
    owner != mine && owner != 0 && mine != 0
}

/// Whether a directory is shared with its group, and with no other users.
pub(super) fn is_shared(mode: u32) -> bool {
    mode & 0o022 == 0o020
}

/// The groups in Linux's description of a process in `/proc/self/status`.
fn groups(status: &str) -> Vec<u32> {
    let lines = status
        .lines()
        .filter_map(|line| line.strip_prefix("Gid:").or_else(|| line.strip_prefix("Groups:")));
    lines.flat_map(str::split_whitespace).filter_map(|group| group.parse().ok()).collect()
}

/// The owner of a file that this process makes in a directory.
fn owner_of_new(directory: &Path) -> io::Result<u32> {
    // The one name that may be left anywhere. Others make and remove it too, for a moment.
    let path = directory.join(STIR);
    let mut tries = 0;
    loop {
        let made = private().write(true).create_new(true).open(&path);
        let gone = match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        };
        match made {
            Ok(file) => return gone.and_then(|()| Ok(file.metadata()?.uid())),
            Err(error) if error.kind() != ErrorKind::AlreadyExists || tries == 1000 => {
                return Err(error);
            }
            Err(_) => gone?,
        }
        tries += 1;
        nap(Duration::from_millis(1));
    }
}

#[cfg(all(test, not(snapline_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_anothers_unless_root_is_one_of_the_two() {
        for (owner, mine, foreign) in
            [(1, 1, false), (1, 2, true), (0, 2, false), (2, 0, false), (0, 0, false)]
        {
            assert_eq!(is_foreign(owner, mine), foreign, "{owner} {mine}");
        }
        let place = tempfile::tempdir().expect("a directory");
        check(place.path()).expect("it is our own");
    }

    #[test]
    fn whose_a_directory_is_says_a_file_that_is_made_in_it() {
        let place = tempfile::tempdir().expect("a directory");
        let owner = fs::metadata(place.path()).expect("it is there").uid();
        fs::write(place.path().join(STIR), "left by a crash").expect("writes");
        assert_eq!(owner_of_new(place.path()).expect("makes a file"), owner);
        assert_eq!(fs::read_dir(place.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_directory_is_shared_with_a_group_and_not_with_the_world() {
        for (mode, shared) in [
            (0o770, true),
            (0o2775, true),
            (0o700, false),
            (0o755, false),
            (0o777, false),
            (0o1777, false),
        ] {
            assert_eq!(is_shared(0o40000 | mode), shared, "{mode:o}");
        }
        let status =
            "Name:\tjob\nUid:\t7\t7\t7\t7\nGid:\t100\t100\t100\t100\nGroups:\t4 2000 \nNgid:\t0\n";
        assert_eq!(groups(status), [100, 100, 100, 100, 4, 2000]);
    }
}
