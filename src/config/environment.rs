//! Settings from the environment: `BUCKETFERRY_SECTION__KEY`, and `…_FILE` for a value that is
//! in a file.
//!
//! Only names with the double underscore are ours, because Kubernetes gives every container
//! variables such as `BUCKETFERRY_PORT` for a Service named `bucketferry`.

use std::collections::HashMap;

use super::error::{ConfigError, Origin, Problem};
use super::key::{Assignment, Key};
use super::secret;
use super::sections::Config;
use super::setting::Written;

/// The store's own options that name a file: for them `_FILE` is a part of the name.
const OPTIONS_THAT_NAME_A_FILE: [&str; 4] = [
    "identity_token_file",
    "federated_token_file",
    "authorization_token_file",
    "shared_credentials_file",
];

/// What the environment sets, by the variables' names; what is set by two of them is an error.
pub(super) fn assignments(
    environment: &[(String, String)],
) -> Vec<Result<Assignment, ConfigError>> {
    let mut variables: Vec<_> = environment.iter().collect();
    variables.sort();
    let mut set_by = HashMap::new();
    variables
        .into_iter()
        .filter_map(|(name, value)| {
            Some((name, assignment(name, value, Key::from_variable(name)?)))
        })
        .map(|(name, assignment)| refuse_second(&mut set_by, name, assignment?))
        .collect()
}

fn assignment(name: &str, value: &str, key: Key) -> Result<Assignment, ConfigError> {
    let origin = Origin::Environment(name.to_owned());
    let Some(in_file) = set_from_file(&key) else {
        return Ok(Assignment::new(
            key,
            Written::Text(value.to_owned()),
            origin,
        ));
    };
    match secret::read(value) {
        Ok(text) => Ok(Assignment::new(in_file, Written::Text(text), origin)),
        Err(problem) => Err(ConfigError::new(origin, &in_file, problem)),
    }
}

/// The key whose value is in a file, if that is what the variable of the given key says.
fn set_from_file(key: &Key) -> Option<Key> {
    let names_a_file = match &key.option {
        Some(option) => OPTIONS_THAT_NAME_A_FILE
            .iter()
            .any(|end| option.ends_with(end)),
        None => exists(key),
    };
    let stripped = key.without_file_suffix()?;
    (!names_a_file && exists(&stripped)).then_some(stripped)
}

fn exists(key: &Key) -> bool {
    let mut config = Config::default();
    let section = config.section_mut(&key.section);
    section.is_some_and(|it| it.settings().iter().any(|setting| setting.name == key.name))
}

fn refuse_second<'a>(
    set_by: &mut HashMap<Key, &'a str>,
    name: &'a str,
    assignment: Assignment,
) -> Result<Assignment, ConfigError> {
    match set_by.insert(assignment.key.clone(), name) {
        None => Ok(assignment),
        Some(other) => {
            let Assignment { key, origin, .. } = assignment;
            let problem = Problem::SetTwice {
                other: other.to_owned(),
            };
            Err(ConfigError::new(origin, &key, problem))
        }
    }
}
