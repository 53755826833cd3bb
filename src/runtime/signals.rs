//! Ctrl-C and SIGTERM: every job that asked for it is suspended, cleanly; a second signal cancels.

use snapline_protocol::coordinator::Stop;

use crate::base::sync::{Mutex, OnceLock, lock};
use crate::runtime::events::{DriverEvent, UserCommand};

/// A job that receives signals.
struct Listener {
    wishes: crossbeam_channel::Sender<DriverEvent>,
    heard: bool,
}

static LISTENERS: OnceLock<Mutex<Vec<(u64, Listener)>>> = OnceLock::new();

/// While it lives, signals reach a job.
pub(crate) struct SignalGuard(u64);

/// Lets signals reach a job. If the process already has a handler of its own, signals reach that
/// handler alone.
pub(crate) fn listen(wishes: crossbeam_channel::Sender<DriverEvent>) -> SignalGuard {
    let listeners = LISTENERS.get_or_init(|| {
        if let Err(error) = ctrlc::set_handler(signalled) {
            tracing::warn!(target: "snapline::job", %error, "signals do not stop the job");
        }
        Mutex::default()
    });
    let mut listeners = lock(listeners);
    let number = listeners.last().map_or(0, |(number, _)| number + 1);
    listeners.push((number, Listener { wishes, heard: false }));
    SignalGuard(number)
}

fn signalled() {
    let Some(listeners) = LISTENERS.get() else { return };
    for (_, listener) in lock(listeners).iter_mut() {
        let command =
            if listener.heard { UserCommand::Cancel } else { UserCommand::Stop(Stop::Suspend) };
        listener.heard = true;
        // A job that is over needs no signal.
        let _ = listener.wishes.send(DriverEvent::UserCommand(command));
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        if let Some(listeners) = LISTENERS.get() {
            lock(listeners).retain(|(number, _)| *number != self.0);
        }
    }
}
