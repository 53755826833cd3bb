//! Settings: what is read, and what every kind of mistake gets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod warnings;

use snapline::JobConfig;
use snapline::settings::{Settings, SettingsError};

fn read(text: &str) -> Result<JobConfig, SettingsError> {
    Settings::new().toml("job.toml", text)?.config()
}

#[test]
fn nothing_is_the_default() {
    let (read, default) = (format!("{:?}", read("").unwrap()), format!("{:?}", JobConfig::new()));
    assert_eq!(read, default);
}

#[test]
fn every_setting_does_what_its_method_does() {
    let with = |text: &str| format!("{:?}", read(text).unwrap());
    let is =
        |text: &str, config: JobConfig| assert_eq!(with(text), format!("{config:?}"), "{text}");
    let new = JobConfig::new;
    let seconds = std::time::Duration::from_secs;
    is("parallelism = 3", new().parallelism(3));
    is("workers = 3", new().workers(3));
    is("key_groups = 16", new().key_groups(16));
    is("directory = 'checkpoints'", new().directory("checkpoints"));
    let (path, takeover) = ("checkpoints".into(), snapline::store::Takeover::Depose);
    let deposing = new().storage(snapline::Storage::Directory { path, takeover });
    is("directory = 'checkpoints'\ntakeover = 'depose'", deposing);
    is("checkpoint_interval = '90s'", new().checkpoint_interval(seconds(90)));
    is("checkpoint_interval = 'never'", new().checkpoint_interval(None));
    is("min_pause = '2s'", new().min_pause(seconds(2)));
    is("checkpoint_timeout = '1m 30s'", new().checkpoint_timeout(seconds(90)));
    is("max_concurrent_checkpoints = 2", new().max_concurrent_checkpoints(2));
    is("tolerable_failures = 0", new().tolerable_failures(0));
    is("retained_checkpoints = 5", new().retained_checkpoints(5));
    is("mode = 'at-least-once'", new().mode(snapline::Mode::AtLeastOnce));
    is("require = 'idempotent'", new().require(snapline::Level::Idempotent));
    is("restart = 'never'", new().restart(snapline::Restart::Never));
    let fixed = snapline::Restart::Fixed { attempts: 4, pause: seconds(3) };
    is("restart = 'fixed'\nrestart_attempts = 4\nrestart_pause = '3s'", new().restart(fixed));
    let exponential = snapline::Restart::Exponential {
        first: seconds(1),
        longest: seconds(9),
        factor: 3.0,
        calm: seconds(5),
        attempts: None,
    };
    is(
        "restart_attempts = 'unlimited'\nrestart_pause = '1s'\nrestart_longest = '9s'\nrestart_factor = 3\nrestart_calm = '5s'",
        new().restart(exponential),
    );
    is("allow_older = true", new().allow_older(true));
    is("resume = 'never'", new().resume(snapline::Resume::Never));
    let seven = snapline::protocol::ids::CheckpointId::new(7).unwrap();
    is("resume = 7", new().resume(snapline::Resume::From(seven)));
    let all = snapline::state::VerifyState::All;
    is("verify_state = 'all'", new().verify_state(all));
    is("upload_threads = 1", new().upload_threads(1));
    is("metrics_interval = '2s'", new().metrics_interval(seconds(2)));
    is("metrics_interval = 'never'", new().metrics_interval(None));
    is("record = 'traces'", new().record(std::path::PathBuf::from("traces")));
}

#[test]
fn every_mistake_is_told_where_it_is() {
    for (text, error) in [
        (
            "paralelism = 3",
            "job.toml:1:1: `paralelism`: there is no such setting; `parallelism` is meant, perhaps",
        ),
        ("\n  sink = 3", "job.toml:2:3: `sink`: there is no such setting"),
        ("parallelism = 0", "job.toml:1:1: `parallelism`: an operator needs at least one subtask"),
        (
            "parallelism = -1",
            "job.toml:1:1: `parallelism`: invalid value: -1, expected a whole number that is not negative",
        ),
        (
            "parallelism = 'many'",
            "job.toml:1:1: `parallelism`: invalid value: string \"many\", expected a whole number that is not negative",
        ),
        ("key_groups = 70000", "job.toml:1:1: `key_groups`: 70000 is too large"),
        (
            "checkpoint_interval = 10",
            "job.toml:1:1: `checkpoint_interval`: invalid type: integer `10`, expected a length of time with its unit, such as \"500ms\", \"10s\" or \"1m 30s\", or one of [\"never\"]",
        ),
        (
            "checkpoint_interval = '0s'",
            "job.toml:1:1: `checkpoint_interval`: it must be longer than nothing; `None` takes no periodic checkpoints",
        ),
        (
            "mode = 'exactly once'",
            "job.toml:1:1: `mode`: \"exactly once\" is none of [\"exactly-once\", \"at-least-once\"]",
        ),
        ("takeover = 'depose'", "job.toml:1:1: `takeover`: it means nothing without a `directory`"),
        (
            "restart = 'never'\nrestart_pause = '1s'",
            "job.toml:2:1: `restart_pause`: it means nothing with `restart = \"never\"`",
        ),
        (
            "restart = 'fixed'\nrestart_calm = '1s'",
            "job.toml:2:1: `restart_calm`: it means nothing with `restart = \"fixed\"`",
        ),
        (
            "restart = 'fixed'\nrestart_attempts = 'unlimited'",
            "job.toml:2:1: `restart_attempts`: `restart = \"fixed\"` wants a number",
        ),
        (
            "restart_longest = '10ms'",
            "job.toml:1:1: `restart_longest`: the first pause, 100ms, is longer than the longest, 10ms",
        ),
        (
            "restart_factor = 0.5",
            "job.toml:1:1: `restart_factor`: 0.5 would make the pause shorter",
        ),
        ("resume = 0", "job.toml:1:1: `resume`: checkpoints are numbered from 1"),
        (
            "allow_older = 1",
            "job.toml:1:1: `allow_older`: invalid type: integer `1`, expected true or false",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), error, "{text}");
    }
    let broken = read("a = 1\nb = = 2").unwrap_err().to_string();
    assert!(broken.starts_with("job.toml:2:") && broken.contains("not TOML"), "{broken}");
    let missing = Settings::new().file("/no/such/file.toml").unwrap_err().to_string();
    assert!(missing.starts_with("/no/such/file.toml: it cannot be read: "), "{missing}");
}

#[test]
fn variables_go_before_the_file() {
    let given = |name: &str, value: &str| {
        Settings::new()
            .toml("job.toml", "parallelism = 2\nkey_groups = 8")
            .unwrap()
            .variables("JOB", [(name.to_owned(), value.to_owned())])
            .and_then(|settings| settings.config())
    };
    let config = format!("{:?}", given("JOB_PARALLELISM", "5").unwrap());
    assert_eq!(config, format!("{:?}", JobConfig::new().parallelism(5).key_groups(8)));
    let config = format!("{:?}", given("JOBS_PARALLELISM", "5").unwrap());
    assert_eq!(config, format!("{:?}", JobConfig::new().parallelism(2).key_groups(8)));
    let config = format!("{:?}", given("JOB_DIRECTORY", "7").unwrap());
    assert!(config.contains("Directory(7, Refuse)"), "text is taken as it is: {config}");
    for (name, value, error) in [
        (
            "JOB_WORKER",
            "5",
            "variable JOB_WORKER: `worker`: there is no such setting; `workers` is meant, perhaps",
        ),
        (
            "JOB_WORKERS",
            "some",
            "variable JOB_WORKERS: `workers`: invalid value: string \"some\", expected a whole number that is not negative",
        ),
        (
            "JOB_ALLOW_OLDER",
            "yes",
            "variable JOB_ALLOW_OLDER: `allow_older`: invalid value: string \"yes\", expected true or false",
        ),
    ] {
        assert_eq!(given(name, value).unwrap_err().to_string(), error);
    }
}

/// `UPDATE=1 cargo test --test settings` writes it anew.
#[test]
fn the_reference_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/reference.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, Settings::reference()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), Settings::reference());
}
