//! The whole way: from what was written in the sources to a [`Config`], or to the report of what is
//! wrong.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn file(text: &str) -> Sources {
    let file = ConfigFile {
        path: PathBuf::from("ferry.toml"),
        text: text.to_owned(),
    };
    Sources {
        file: Some(file),
        ..Sources::default()
    }
}

fn environment(variables: &[(&str, &str)]) -> Sources {
    let owned = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sources {
        environment: owned.collect(),
        ..Sources::default()
    }
}

fn flag(flag: &'static str, key: &'static str, value: &str) -> Flag {
    Flag {
        flag,
        key,
        value: value.to_owned(),
    }
}

fn load(sources: &Sources) -> Config {
    Config::load(sources).unwrap_or_else(|errors| panic!("{errors}"))
}

fn report(sources: &Sources) -> String {
    Config::load(sources)
        .expect_err("the sources are wrong")
        .to_string()
}

/// A file that is gone when the test ends.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bucketferry-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn nothing_written_is_the_defaults() {
    assert_eq!(load(&Sources::default()), Config::default());
    assert_eq!(
        load(&file("# nothing\n[tls]\n[active]\n[ftp]\n")),
        Config::default()
    );
}

#[test]
fn later_sources_win() {
    let mut sources =
        file("[ftp]\ngreeting = 'file'\n[upload]\nconcurrency = 5\n[limits]\nmax_sessions = 5");
    sources.environment = environment(&[
        ("BUCKETFERRY_FTP__GREETING", "env"),
        ("BUCKETFERRY_UPLOAD__CONCURRENCY", "6"),
    ])
    .environment;
    sources.flags = vec![
        flag("--greeting", "ftp.greeting", "first"),
        flag("--greeting", "ftp.greeting", "flag"),
    ];
    let config = load(&sources);
    assert_eq!(config.ftp.greeting, "flag");
    assert_eq!(config.upload.concurrency, 6);
    assert_eq!(config.limits.max_sessions, 5);
    assert_eq!(config.download, Download::default());
}

#[test]
fn options_of_the_store_are_laid_over_each_other_one_by_one() {
    let mut sources =
        file("[store.options]\nAWS_REGION = 'here'\naws_endpoint = 'file'\naws_allow_http = true");
    sources.environment =
        environment(&[("BUCKETFERRY_STORE__OPTIONS__AWS_ENDPOINT", "env")]).environment;
    sources.flags = vec![flag("--store-option", "store.options.aws_bucket", "b")];
    let options = load(&sources).store.options;
    let expected = [
        ("aws_allow_http", "true"),
        ("aws_bucket", "b"),
        ("aws_endpoint", "env"),
        ("aws_region", "here"),
    ];
    assert!(
        options.iter().eq(expected),
        "{:?}",
        options.iter().collect::<Vec<_>>()
    );
}

#[test]
fn every_default_is_shown_as_it_can_be_written() {
    let default = Config::default();
    for section in default.sections() {
        for setting in section.settings() {
            let key = format!("{}.{}", section.name(), setting.name);
            let toml = format!(
                "[{}]\n{} = {}\n",
                section.name(),
                setting.name,
                setting.value
            );
            assert_eq!(load(&file(&toml)), default, "{toml}");

            let text = setting
                .value
                .as_str()
                .map_or_else(|| setting.value.to_string(), str::to_owned);
            let variable = Key::from_dotted(&key).variable();
            assert_eq!(
                load(&environment(&[(&variable, &text)])),
                default,
                "{variable}={text}"
            );
        }
    }
}

#[test]
fn every_setting_is_set_by_its_own_name_only() {
    let default = Config::default();
    for section in default.sections() {
        for setting in section.settings() {
            let wrong = format!("[{}]\n{} = 1979-05-27", section.name(), setting.name);
            let line = report(&file(&wrong));
            let start = format!("ferry.toml:2: {}.{}: found ", section.name(), setting.name);
            assert!(line.starts_with(&start), "{line}");
            assert!(
                line.ends_with(&format!("; allowed: {}", setting.allowed)),
                "{line}"
            );
        }
    }
}

#[test]
fn all_errors_come_in_one_report() {
    let mut sources = file(
        "[upload]\noverwrite = 'maybe'\nconcurrency = 100\n\n[ftp]\nlisen = 'x'\nallow = ['10.0.0.0/8', 'ten']\n\n\
         [colours]\nred = 1\n[tls]\nrequire = 'some'\n",
    );
    sources.environment = environment(&[
        ("BUCKETFERRY_DOWNLOAD__STALL_TIMEOUT", "soon"),
        ("BUCKETFERRY_DOWNLOAD__STALL_TIME", "5m"),
        ("BUCKETFERRY_PORT", "tcp://10.0.0.1:21"),
    ])
    .environment;
    sources.flags = vec![flag("--listen", "ftp.listen", "here")];
    let expected = r#"
ferry.toml:2: upload.overwrite: found "maybe"; allowed: `allow`, `deny`
ferry.toml:3: upload.concurrency: found 100; allowed: a whole number, from 1 to 64
ferry.toml:6: ftp.lisen: no such setting; did you mean ftp.listen?
ferry.toml:7: ftp.allow: found "ten"; allowed: a list of these: a network or an IP address, such as `10.0.0.0/8` or `2001:db8::1`
ferry.toml:9: [colours]: no such section
ferry.toml:12: tls.require: found "some"; allowed: `none`, `control`, `all`
BUCKETFERRY_DOWNLOAD__STALL_TIME: download.stall_time: no such setting; did you mean BUCKETFERRY_DOWNLOAD__STALL_TIMEOUT?
BUCKETFERRY_DOWNLOAD__STALL_TIMEOUT: download.stall_timeout: found "soon" (expected number at 0); allowed: a duration with its unit, such as `30s` or `5m`, from 1ms to 30days
--listen: ftp.listen: found "here"; allowed: a list of these: an IP address with a port, such as `0.0.0.0:2121` or `[::]:2121`; at least one
"#;
    assert_eq!(report(&sources), expected.trim());
}

#[test]
fn a_wrong_value_is_an_error_even_where_it_is_overridden() {
    let mut sources = file("[limits]\nmax_sessions = 0");
    sources.environment = environment(&[("BUCKETFERRY_LIMITS__MAX_SESSIONS", "10")]).environment;
    assert!(report(&sources).starts_with("ferry.toml:2: limits.max_sessions: found 0"));
}

#[test]
fn what_is_not_toml_is_told_by_line_and_the_other_sources_too() {
    let mut sources = file("[ftp]\ngreeting = 'open\n[log]\nlevel = \n");
    sources.flags = vec![flag("--listen", "ftp.listen", "here")];
    let report = report(&sources);
    assert!(report.contains("ferry.toml:2: not TOML: "), "{report}");
    assert!(report.contains("ferry.toml:4: not TOML: "), "{report}");
    assert!(report.contains("--listen: "), "{report}");
}

#[test]
fn names_that_do_not_exist_are_errors_with_a_hint() {
    for (sources, expected) in [
        (
            file("[fpt]\n"),
            "ferry.toml:1: [fpt]: no such section; did you mean [ftp]?",
        ),
        (
            file("max_sessions = 1"),
            "ferry.toml:1: [max_sessions]: no such section; did you mean limits.max_sessions?",
        ),
        (
            file("ftp = 1"),
            "ferry.toml:1: [ftp]: this is a section: write its settings below a line that names it in brackets",
        ),
        (
            file("[ftp]\nmax_size = 1"),
            "ferry.toml:2: ftp.max_size: no such setting; did you mean upload.max_size?",
        ),
        (
            file("[ftp]\n\"a\\nb\" = 1"),
            r"ferry.toml:2: ftp.a\nb: no such setting",
        ),
        (
            environment(&[("BUCKETFERRY_STOER__URL", "x")]),
            "BUCKETFERRY_STOER__URL: [stoer]: no such section; did you mean BUCKETFERRY_STORE__URL?",
        ),
        (
            environment(&[("BUCKETFERRY__URL", "x")]),
            "BUCKETFERRY__URL: [_url]: no such section",
        ),
        (
            environment(&[("BUCKETFERRY_STORE__OPTIONS__", "x")]),
            "BUCKETFERRY_STORE__OPTIONS__: store.options__: no such setting; did you mean BUCKETFERRY_STORE__OPTIONS?",
        ),
        (
            environment(&[("BUCKETFERRY_TLS__X", "x")]),
            "BUCKETFERRY_TLS__X: tls.x: no such setting",
        ),
    ] {
        assert_eq!(report(&sources), expected);
    }
}

#[test]
fn stores_have_names_and_the_settings_of_the_default_one() {
    let mut sources = file(
        "[store]\nurl = 's3://a'\n[stores.eu_1]\nurl = 'gs://b/c'\noptions = { google_base_url = 'http://x' }\n\
         [stores.old]\nurl = 'memory://'\n",
    );
    let variables = [
        ("BUCKETFERRY_STORES__EU_1__OPTIONS__GOOGLE_BUCKET", "b"),
        ("BUCKETFERRY_STORES__OLD__PROBE_INTERVAL", "3s"),
    ];
    sources.environment = environment(&variables).environment;
    let config = load(&sources);
    assert_eq!(config.store.url.to_string(), "s3://a");
    let stores: Vec<_> = config.stores.iter().collect();
    let [(eu, google), (old, memory)] = stores[..] else {
        panic!("{stores:?}");
    };
    assert_eq!(
        (eu.as_str(), google.url.to_string()),
        ("eu_1", "gs://b/c".to_owned())
    );
    assert_eq!(google.options.get("google_base_url"), Some("http://x"));
    assert_eq!(google.options.get("google_bucket"), Some("b"));
    assert_eq!(old.as_str(), "old");
    assert_eq!(memory.probe_interval, Duration::from_secs(3));
}

#[test]
fn what_is_wrong_with_a_named_store_is_told() {
    let variable = "BUCKETFERRY_STORES__A__OPTIONS__AWS_REGION";
    for (sources, expected) in [
        (
            file("[stores.a]\ncreate = 'never'"),
            "ferry.toml:2: stores.a.url: found nothing; allowed: ",
        ),
        (
            file("[stores.a]\n"),
            "ferry.toml:1: stores.a.url: found nothing; allowed: ",
        ),
        (
            file("[stores.default]\nurl = './a'"),
            "ferry.toml:1: [stores.default]: found \"default\"; allowed: a name ",
        ),
        (
            file("[stores.'a.b']\nurl = './a'"),
            "ferry.toml:1: [stores.a.b]: found \"a.b\"; allowed: a name ",
        ),
        (
            file("stores = 1"),
            "ferry.toml:1: [stores]: this is a section",
        ),
        (
            file("[stores]\na = 1"),
            "ferry.toml:2: [stores.a]: this is a section",
        ),
        (
            file("[stores.a]\nurl = './a'\nprobe_intervall = '3s'"),
            "ferry.toml:3: stores.a.probe_intervall: no such setting; did you mean stores.a.probe_interval?",
        ),
        (
            environment(&[(variable, "x")]),
            &format!("{variable}: stores.a.url: found nothing"),
        ),
        (
            environment(&[("BUCKETFERRY_STORES__URL", "x")]),
            "BUCKETFERRY_STORES__URL: [stores.url]: no such setting",
        ),
    ] {
        let report = report(&sources);
        assert!(report.starts_with(expected), "{report}");
    }
}

#[test]
fn variables_of_a_kubernetes_service_are_ignored() {
    let service = [
        ("BUCKETFERRY_PORT", "tcp://10.0.0.1:21"),
        ("BUCKETFERRY_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(load(&environment(&service)), Config::default());
}

#[test]
fn the_environment_reads_values_from_files() {
    let secret = SecretFile::new("environment", "hunter2\n");
    let greeting = SecretFile::new("greeting", "Hello\r\n");
    let config = load(&environment(&[
        (
            "BUCKETFERRY_STORE__OPTIONS__AWS_SECRET_ACCESS_KEY_FILE",
            secret.path(),
        ),
        (
            "BUCKETFERRY_STORE__OPTIONS__AWS_WEB_IDENTITY_TOKEN_FILE",
            "/not/read",
        ),
        ("BUCKETFERRY_FTP__GREETING_FILE", greeting.path()),
        ("BUCKETFERRY_USERS__FILE", "/etc/users.toml"),
    ]));
    assert_eq!(
        config.store.options.get("aws_secret_access_key"),
        Some("hunter2")
    );
    assert_eq!(
        config.store.options.get("aws_web_identity_token_file"),
        Some("/not/read")
    );
    assert_eq!(config.ftp.greeting, "Hello");
    assert_eq!(config.users.file, Some("/etc/users.toml".into()));
}

#[test]
fn the_file_reads_options_of_the_store_from_files() {
    let secret = SecretFile::new("file", "hunter2\n");
    let text = format!(
        "[store.options]\naws_secret_access_key = {{ file = {:?} }}",
        secret.path()
    );
    assert_eq!(
        load(&file(&text))
            .store
            .options
            .get("aws_secret_access_key"),
        Some("hunter2")
    );
}

#[test]
fn a_secret_that_can_not_be_read_is_an_error() {
    let missing = "/bucketferry/does/not/exist";
    let from_file = report(&file(&format!(
        "[store.options]\nkey = {{ file = '{missing}' }}"
    )));
    assert!(
        from_file.starts_with(&format!(
            "ferry.toml:2: store.options.key: cannot read {missing:?}: "
        )),
        "{from_file}"
    );

    let variable = "BUCKETFERRY_STORE__OPTIONS__KEY_FILE";
    let from_environment = report(&environment(&[(variable, missing)]));
    assert!(
        from_environment.starts_with(&format!("{variable}: store.options.key: cannot read ")),
        "{from_environment}"
    );
}

#[test]
fn a_setting_is_set_by_one_variable_only() {
    let secret = SecretFile::new("twice", "hunter2");
    let report = report(&environment(&[
        ("BUCKETFERRY_STORE__OPTIONS__KEY", "hunter2"),
        ("BUCKETFERRY_STORE__OPTIONS__KEY_FILE", secret.path()),
    ]));
    let expected = "BUCKETFERRY_STORE__OPTIONS__KEY_FILE: store.options.key: set by BUCKETFERRY_STORE__OPTIONS__KEY too";
    assert_eq!(report, expected);
}

#[test]
fn secrets_are_in_no_error_and_no_debug() {
    let wrong = report(&file(
        "[store]\nurl = 's3://key:hunter2@bucket'\n[store.options]\na = ['hunter2']\nb = { text = 'hunter2' }\nc = 2.5",
    ));
    assert_eq!(wrong.lines().count(), 4, "{wrong}");
    assert!(
        wrong.contains("store.options.c: found a number with a fraction"),
        "{wrong}"
    );
    assert!(!wrong.contains("hunter2"), "{wrong}");

    let wrong = report(&environment(&[(
        "BUCKETFERRY_STORE__OPTIONS",
        "aws_secret_access_key=hunter2",
    )]));
    assert!(!wrong.contains("hunter2"), "{wrong}");

    let right = load(&file("[store.options]\naws_secret_access_key = 'hunter2'"));
    let debug = format!("{right:?}");
    assert!(
        debug.contains("aws_secret_access_key") && !debug.contains("hunter2"),
        "{debug}"
    );
}

#[test]
fn limits_hold_at_both_ends() {
    for (key, right, wrong) in [
        ("upload.part_size", "5 MiB", "5242879"),
        ("upload.part_size", "5 GiB", "5121 MiB"),
        ("upload.concurrency", "64", "65"),
        ("upload.settle", "0s", "61s"),
        ("upload.settle", "auto", "never"),
        ("upload.max_size", "none", "0"),
        ("upload.stall_timeout", "1ms", "0s"),
        ("limits.login_failures", "0", "4294967296"),
        ("limits.max_sessions_per_ip", "1", "0"),
        ("ftp.greeting", "hello", "hel\rlo"),
        ("ftp.fallback_charset", "KOI8-R", "latin"),
        ("ftp.fallback_charset", "utf-8", ""),
        ("ftp.listen", "[::]:21", ""),
        ("passive.ports", "0", "1023"),
        ("users.file", "none", ""),
    ] {
        let set = |value| Sources {
            flags: vec![flag("--flag", key, value)],
            ..Sources::default()
        };
        load(&set(right));
        let error = report(&set(wrong));
        assert!(
            error.starts_with(&format!("--flag: {key}: found ")),
            "{error}"
        );
    }
}

#[test]
fn errors_can_be_told_apart_by_code() {
    let errors = Config::load(&environment(&[("BUCKETFERRY_LOG__LEVEL", "loud")])).unwrap_err();
    let error = errors.iter().next().unwrap();
    assert_eq!(error.key(), "log.level");
    assert_eq!(
        error.origin(),
        &Origin::Environment("BUCKETFERRY_LOG__LEVEL".to_owned())
    );
}

/// Found by the fuzzer: what is suggested for a name repeats the rest of it.
#[test]
fn no_report_holds_control_characters() {
    let report = report(&environment(&[("BUCKETFERRY_FTQ__LISTEN\u{1b}[2J", "x")]));
    assert!(
        report.contains("did you mean BUCKETFERRY_FTP__LISTEN"),
        "{report}"
    );
    assert!(!report.contains(char::is_control), "{report:?}");
}

#[test]
fn a_file_sets_values_of_every_kind() {
    let config = load(&file(
        "[ftp]\nlisten = '0.0.0.0:21'\ndeny = '10.0.0.1, 192.0.2.0/24'\n[passive]\nports = '2000-2009'\naddress = '192.0.2.1'\noverrides = { '10.0.0.0/8' = 'connection' }\n\
         [upload]\nmax_size = '10 GB'\ncheck_allo = true\non_control_loss = 'keep'\n[shutdown]\ngrace = '1h 30m'",
    ));
    assert_eq!(config.ftp.listen, ["0.0.0.0:21".parse().unwrap()]);
    assert_eq!(config.ftp.deny.len(), 2);
    assert_eq!(config.passive.ports.len(), 10);
    assert_eq!(
        config.passive.address,
        PassiveAddress::Ip([192, 0, 2, 1].into())
    );
    let overrides: Vec<_> = config.passive.overrides.iter().collect();
    let inside = "10.0.0.0/8".parse().unwrap();
    assert_eq!(overrides, [(&inside, &PassiveAddress::Connection)]);
    assert_eq!(config.upload.max_size, Some(ByteSize(10_000_000_000)));
    assert!(config.upload.check_allo);
    assert_eq!(config.upload.on_control_loss, ControlLoss::Keep);
    assert_eq!(config.shutdown.grace, Duration::from_mins(90));
}
