//! Settings: the accepted input, and the result of every kind of mistake.

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
    is("hang_timeout = '3m'", new().hang_timeout(seconds(180)));
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
        reset_after: seconds(5),
        attempts: None,
    };
    is(
        "restart_attempts = 'unlimited'\nrestart_pause = '1s'\nrestart_longest = '9s'\nrestart_factor = 3\nrestart_reset_after = '5s'",
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
fn every_mistake_is_reported_where_it_is() {
    for (text, error) in [
        (
            "paralelism = 3",
            "job.toml:1:1: `paralelism`: there is no such setting; did you mean `parallelism`?",
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
            "job.toml:1:1: `checkpoint_interval`: invalid type: integer `10`, expected a length of time with its unit, such as \"500ms\", \"10s\" or \"1m 30s\", 100 years at most, or one of [\"never\"]",
        ),
        (
            "checkpoint_interval = '0s'",
            "job.toml:1:1: `checkpoint_interval`: it must be greater than zero; `None` takes no periodic checkpoints",
        ),
        (
            "mode = 'exactly once'",
            "job.toml:1:1: `mode`: \"exactly once\" is not one of [\"exactly-once\", \"at-least-once\"]",
        ),
        (
            "takeover = 'depose'",
            "job.toml:1:1: `takeover`: it has no effect without a `directory`; set one",
        ),
        (
            "restart = 'never'\nrestart_pause = '1s'",
            "job.toml:2:1: `restart_pause`: it has no effect with `restart = \"never\"`",
        ),
        (
            "restart = 'fixed'\nrestart_reset_after = '1s'",
            "job.toml:2:1: `restart_reset_after`: it has no effect with `restart = \"fixed\"`",
        ),
        (
            "restart = 'fixed'\nrestart_attempts = 'unlimited'",
            "job.toml:2:1: `restart_attempts`: `restart = \"fixed\"` needs a number",
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
            "JOB__WORKER",
            "5",
            "variable JOB__WORKER: `worker`: there is no such setting; did you mean `workers`?",
        ),
        ("JOB__API_TOKEN", "abc", "variable JOB__API_TOKEN: `api_token`: there is no such setting"),
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

/// The variables that Kubernetes sets in a pod beside a service named `orders`.
const BESIDE_A_SERVICE: [(&str, &str); 7] = [
    ("ORDERS_SERVICE_HOST", "10.0.0.7"),
    ("ORDERS_SERVICE_PORT", "8080"),
    ("ORDERS_PORT", "tcp://10.0.0.7:8080"),
    ("ORDERS_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
    ("ORDERS_PORT_8080_TCP_PROTO", "tcp"),
    ("ORDERS_PORT_8080_TCP_PORT", "8080"),
    ("ORDERS_PORT_8080_TCP_ADDR", "10.0.0.7"),
];

#[test]
fn variables_of_others_are_ignored_and_listed() {
    let given = |prefix: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::new().variables(prefix, variables).and_then(|settings| settings.config())
    };
    let mut variables = BESIDE_A_SERVICE.to_vec();
    variables.extend([
        ("ORDERS__CHECKPOINT_INTERVAL", "7s"),
        ("ORDERS_CHECKPOINT_INTERVAL", "9s"),
        ("ORDERS_PARALLELISM", "3"),
        ("ORDERS_CHECKPOINT_INTERVALL", "1s"),
        ("ORDERS_DATABASE_PASSWORD", "hunter2"),
    ]);
    let config = given("ORDERS", &variables).unwrap();
    let text = config.warnings().iter().map(ToString::to_string).collect::<String>();
    for (name, _) in BESIDE_A_SERVICE {
        assert!(text.contains(name), "{name}: {text}");
    }
    let near = "ORDERS_CHECKPOINT_INTERVALL (did you mean `checkpoint_interval`: ORDERS__CHECKPOINT_INTERVAL?)";
    assert!(text.contains(near) && text.contains("ORDERS_DATABASE_PASSWORD"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("10.0.0.7"), "{text}");
    let config = format!("{config:?}");
    assert!(
        config.contains("parallelism: Some(3)") && config.contains(" interval: Some(7s)"),
        "{config}"
    );

    let error = given("TOKENS", &[("TOKENS_WORKERS", "hunter2")]).unwrap_err().to_string();
    assert!(error.starts_with("variable TOKENS_WORKERS: `workers`: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let error = given("DB_PASSWORD", &[("DB_PASSWORD__MODE", "hunter2")]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
    // Services, not secrets: the wrong value is shown.
    for prefix in ["AUTH", "PASSENGER", "TOKENIZER", "COMPASS"] {
        let name = format!("{prefix}__MODE");
        let error = given(prefix, &[(&name, "exact")]).unwrap_err().to_string();
        assert!(error.contains("\"exact\""), "{error}");
    }
}

#[test]
fn lengths_of_time_have_bounds_and_months_are_said() {
    let keys = ["min_pause", "checkpoint_interval", "checkpoint_timeout", "metrics_interval"];
    let keys = keys.into_iter().chain(["restart_pause", "restart_longest", "restart_reset_after"]);
    for key in keys {
        for long in ["500000000000y", "101y", "18446744073709551615s", "99999999999999999999s"] {
            let error = read(&format!("{key} = '{long}'")).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("100 years at most"), "{error}");
            let variables = [(format!("JOB__{}", key.to_uppercase()), long.to_owned())];
            let given = Settings::new().variables("JOB", variables).unwrap().config();
            assert!(given.unwrap_err().to_string().contains("100 years at most"));
        }
    }
    let _ = read("min_pause = '100y'").expect("it is 100 years");
    let warnings = |text: &str| {
        read(text).unwrap().warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings("checkpoint_timeout = '1M'"),
        [
            "`checkpoint_timeout`: `M` stands for months: this is 30 days; write `m` for minutes, `ms` for milliseconds, or `months`"
        ]
    );
    assert_eq!(
        warnings("checkpoint_timeout = '1d 2y'"),
        [
            "`checkpoint_timeout`: `y` stands for years: this is 731 days; write `years` if it is meant, or another unit"
        ]
    );
    for text in ["1m", "1month", "60days", "2 years", "500ms"] {
        let text = format!("checkpoint_timeout = '{text}'\ncheckpoint_interval = '100ms'");
        assert_eq!(warnings(&text), [] as [String; 0], "{text}");
    }
    // A path may have any letters.
    assert_eq!(warnings("directory = '1M'"), [] as [String; 0]);
}

/// `UPDATE=1 cargo test --all-features --test settings` rewrites it.
#[test]
fn the_reference_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings/reference.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, Settings::reference()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), Settings::reference());
}
