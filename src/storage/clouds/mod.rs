//! What every kind of store does the same, tried on a server that nobody here wrote.
//!
//! `make clouds` starts the servers and says in the environment where one is: `CLOUD` is its name, `CLOUD_BUCKET` its
//! bucket as a URL, `CLOUD_OPTIONS` the options that lead there, a line `name=value` each. Behaviours that a server
//! can't have are in one table with the reason ([`EXCEPTIONS`]). They are tried all the same: one that passes fails the
//! run, so that the table stays true.

mod exceptions;

use std::any::Any;
use std::fmt::{self, Display};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::timeout;

use crate::storage::clouds::exceptions::{EXCEPTIONS, Exception, NEED_A_DOUBLE, SERVERS, known};
use crate::storage::store::fixture::{Behaviour, Fixture};
use crate::storage::{sentence, store, suite, whole};

/// So many behaviours are tried at once, each in a directory of its own.
const AT_ONCE: usize = 4;

/// A behaviour that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(3);

/// A race that can be lost is tried so often.
const RACES_TO_LOSE: usize = 10;

/// Two gateways at once, without a fault: all others of their suite need one.
const RACES: [&str; 7] = [
    "one_of_two_uploads_takes_a_new_name_where_overwriting_is_denied",
    "one_of_two_large_uploads_takes_a_new_name_where_overwriting_is_denied",
    "one_of_two_appends_makes_a_new_file",
    "one_of_two_renames_takes_a_new_name_where_overwriting_is_denied",
    "one_of_two_renames_of_a_file_succeeds",
    "of_two_uploads_to_one_name_one_stays_whole",
    "what_another_has_written_is_replaced",
];

/// A server that runs.
struct Cloud {
    name: String,
    bucket: String,
    options: Vec<(String, String)>,
}

/// How a behaviour was tried.
struct Trial {
    test: String,
    took: Duration,
    /// What was wrong.
    failure: Option<String>,
    exception: Option<&'static Exception>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs servers: make clouds"]
async fn a_real_server_does_what_every_store_does() {
    let cloud = Cloud::from_environment();
    let picked = behaviours().enumerate().filter(|(_, test)| is_picked(test));
    let trials = stream::iter(picked)
        .map(|(number, (test, behaviour))| cloud.try_one(number, test, behaviour))
        .buffer_unordered(AT_ONCE);
    let trials: Vec<_> = trials.inspect(|trial| println!("{trial}")).collect().await;
    cloud.show_exceptions();
    let wrong = trials.iter().filter_map(Trial::wrong);
    let wrong: Vec<_> = wrong.collect();
    println!("{} tried on {}", trials.len(), cloud.name);
    assert!(!trials.is_empty(), "no such behaviour");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All of them, each by its suite and name.
fn behaviours() -> impl Iterator<Item = (String, Behaviour)> {
    let suites = [
        ("store", store::suite::BEHAVIOURS),
        ("storage", suite::BEHAVIOURS),
        ("rights", suite::rights::BEHAVIOURS),
        ("whole", whole::BEHAVIOURS),
        ("sentence", sentence::BEHAVIOURS),
    ];
    let all = suites.into_iter().flat_map(|(suite, behaviours)| {
        let of_suite = behaviours.iter();
        of_suite.map(move |behaviour| (format!("{suite}::{}", behaviour.0), *behaviour))
    });
    all.filter(|(test, _)| match test.strip_prefix("sentence::") {
        Some(race) => RACES.contains(&race),
        None => !NEED_A_DOUBLE.contains(&&**test),
    })
}

/// `CLOUD_TEST` picks those with this text in their name.
fn is_picked((test, _): &(String, Behaviour)) -> bool {
    std::env::var("CLOUD_TEST").map_or(true, |text| test.contains(&text))
}

impl Cloud {
    fn from_environment() -> Self {
        let variable =
            |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("no {name}: make clouds"));
        let options = variable("CLOUD_OPTIONS");
        let options = options.lines().filter_map(|line| line.split_once('='));
        let name = variable("CLOUD");
        assert!(
            SERVERS.iter().any(|server| server.name == name),
            "no such server: {name}"
        );
        Self {
            name,
            bucket: variable("CLOUD_BUCKET"),
            options: options
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    async fn try_one(&self, number: usize, test: String, (_, behaviour): Behaviour) -> Trial {
        let began = Instant::now();
        let exception = known(&self.name, &test);
        let mut failure = self.failure(number, &test, behaviour).await;
        if exception.is_some_and(|exception| exception.is_race) {
            // Not every race is lost.
            for _ in 1..RACES_TO_LOSE {
                if failure.is_none() {
                    failure = self.failure(number, &test, behaviour).await;
                }
            }
        }
        Trial {
            exception,
            took: began.elapsed(),
            test,
            failure,
        }
    }

    /// What is wrong with a behaviour here.
    async fn failure(
        &self,
        number: usize,
        test: &str,
        behaviour: fn(Fixture) -> LocalBoxFuture<'static, ()>,
    ) -> Option<String> {
        let fixture = Fixture::real(&self.bucket_of(number, test), self.options.clone());
        let tried = AssertUnwindSafe(behaviour(fixture)).catch_unwind();
        match timeout(PATIENCE, tried).await {
            Ok(Ok(())) => None,
            Ok(Err(panic)) => Some(words(panic)),
            Err(_) => Some(format!("it took longer than {PATIENCE:?}")),
        }
    }

    /// What a store promises is tried at the top of a bucket. There are enough of them for that, and not for all else.
    fn bucket_of(&self, number: usize, test: &str) -> String {
        match self.bucket.rsplit_once('/') {
            Some((scheme, _)) if test.starts_with("store::") => format!("{scheme}/tried-{number}"),
            _ => self.bucket.clone(),
        }
    }

    fn show_exceptions(&self) {
        for exception in EXCEPTIONS
            .iter()
            .filter(|exception| exception.server == self.name)
        {
            println!(
                "exception: {} on {}: {}",
                exception.test, self.name, exception.reason
            );
        }
    }
}

impl Trial {
    fn wrong(&self) -> Option<String> {
        match (&self.failure, self.exception) {
            (Some(failure), None) => Some(format!("{}: {failure}", self.test)),
            (None, Some(exception)) => Some(format!(
                "{}: it passes, so its exception is untrue: {}",
                self.test, exception.reason
            )),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}

impl Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match (&self.failure, self.exception) {
            (None, None) => "ok",
            (Some(_), Some(_)) => "can't",
            (Some(_), None) => "FAILED",
            (None, Some(_)) => "FAILED, because it passes",
        };
        write!(
            f,
            "{:6.1} s  {outcome}  {}",
            self.took.as_secs_f64(),
            self.test
        )?;
        match &self.failure {
            Some(failure) => write!(f, ": {failure}"),
            None => Ok(()),
        }
    }
}

fn words(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic
            .downcast_ref::<&str>()
            .map_or("a panic without words", |text| text)
            .to_owned(),
    }
}
