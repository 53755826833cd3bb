//! `snapline settings`: reads a job's settings as the job would, and reports errors and warnings.

use snapline::settings::{Settings, SettingsError};

use crate::args::SettingsArgs;
use crate::table::counted;
use crate::{CommandError, Exit, Terminal};

/// Carries out `snapline settings`.
///
/// # Errors
/// [`CommandError`] if a file cannot be read, or the settings cannot be: it names the key, and
/// where it is.
pub fn run(args: &SettingsArgs, terminal: &mut Terminal<'_>) -> Result<Exit, CommandError> {
    if args.list {
        write!(terminal.out(), "{}", Settings::reference())?;
        return Ok(Exit::Good);
    }
    let wrong = |error: SettingsError| CommandError::Usage(error.to_string());
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
        "the settings are valid: {found}; the job reports warnings about its sinks when it starts"
    )?;
    Ok(if args.deny_warnings && !warnings.is_empty() { Exit::Bad } else { Exit::Good })
}
