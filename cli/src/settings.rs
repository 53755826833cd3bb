//! `snapline settings`: reads a job's settings as the job would, and says what is wrong or unwise in them.

use snapline::settings::{Settings, SettingsError};

use crate::args::SettingsArgs;
use crate::table::counted;
use crate::{Exit, Failure, Terminal};

/// Carries out `snapline settings`.
///
/// # Errors
/// [`Failure`] if a file cannot be read, or the settings cannot be: it names the key, and where it is.
pub fn run(args: &SettingsArgs, terminal: &mut Terminal<'_>) -> Result<Exit, Failure> {
    if args.list {
        write!(terminal.out(), "{}", Settings::reference())?;
        return Ok(Exit::Good);
    }
    let wrong = |error: SettingsError| Failure::Usage(error.to_string());
    let mut settings = Settings::new();
    for file in &args.files {
        settings = settings.file(file).map_err(wrong)?;
    }
    if let Some(prefix) = &args.environment {
        settings = settings.environment(prefix).map_err(wrong)?;
    }
    let warnings = settings.config().map_err(wrong)?.warnings();
    let out = terminal.out();
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let found = counted(warnings.len() as u64, "warning");
    writeln!(
        out,
        "a job can have these settings: {found}; what its sinks make of them is told when it starts"
    )?;
    Ok(if args.deny_warnings && !warnings.is_empty() { Exit::Bad } else { Exit::Good })
}
