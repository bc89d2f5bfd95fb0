//! How the value of one setting is read and shown, for each type that a setting can have.
//!
//! What [`Setting::show`] gives, [`Setting::parse`] takes: so a default in the reference can be
//! copied into a file.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use toml::Value;

use super::rule::Rule;

/// A type that a setting can have.
pub(super) trait Setting: Sized {
    /// What an operator may write, for messages and the reference.
    fn allowed() -> String;

    /// Reads a value; the error says what was found, and why it is not allowed where
    /// [`Self::allowed`] does not.
    fn parse(value: &Value) -> Result<Self, String>;

    /// The value as it would be written.
    fn show(&self) -> Value;

    /// Lets a later source win.
    fn replace_by(&mut self, later: Self) {
        *self = later;
    }
}

/// What a source gives for a setting.
pub(super) enum Written {
    /// In the file, values have types.
    Toml(Value),
    /// In the environment and in flags, they are text.
    Text(String),
}

impl Written {
    /// The value, if it can be read and the rule admits it. Text is taken as it is, or else as TOML
    /// would read it.
    pub(super) fn read<T: Setting>(&self, rule: &impl Rule<T>) -> Result<T, String> {
        match self {
            Self::Toml(value) => read_value(value, rule),
            Self::Text(text) => read_value(&Value::String(text.clone()), rule).or_else(|refusal| {
                text.parse()
                    .map_or(Err(refusal), |literal| read_value(&literal, rule))
            }),
        }
    }
}

fn read_value<T: Setting>(value: &Value, rule: &impl Rule<T>) -> Result<T, String> {
    let parsed = T::parse(value)?;
    if rule.admits(&parsed) {
        Ok(parsed)
    } else {
        Err(found(value))
    }
}

/// "found …", on one line and short.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > 60 => {
            format!(
                "found a text that begins with {:?}",
                text.chars().take(60).collect::<String>()
            )
        }
        Value::String(text) => format!("found {text:?}"),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            format!("found {value}")
        }
        Value::Array(_) | Value::Table(_) => found_type(value),
    }
}

/// "found a …", for a value that may be a secret.
pub(super) fn found_type(value: &Value) -> String {
    let kind = match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    format!("found {kind}")
}

/// The text of a value that must be one.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| found(value))
}

impl Setting for String {
    fn allowed() -> String {
        "a text".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        text(value).map(str::to_owned)
    }

    fn show(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Setting for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| found(value))
    }

    fn show(&self) -> Value {
        Value::Boolean(*self)
    }
}

/// Whole numbers of each width that settings have.
macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            fn allowed() -> String {
                "a whole number".to_owned()
            }

            fn parse(value: &Value) -> Result<Self, String> {
                let number = value.as_integer().and_then(|number| number.try_into().ok());
                number.ok_or_else(|| found(value))
            }

            fn show(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )+};
}

whole_numbers!(u16, u32, usize);

impl Setting for Duration {
    fn allowed() -> String {
        "a duration with its unit, such as `30s` or `5m`".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        humantime::parse_duration(text(value)?)
            .map_err(|error| format!("{} ({error})", found(value)))
    }

    fn show(&self) -> Value {
        Value::String(humantime::format_duration(*self).to_string())
    }
}

impl Setting for SocketAddr {
    fn allowed() -> String {
        "an IP address with a port, such as `0.0.0.0:2121` or `[::]:2121`".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for IpNet {
    fn allowed() -> String {
        "a network or an IP address, such as `10.0.0.0/8` or `2001:db8::1`".to_owned()
    }

    /// A bare address is the network of only that address.
    fn parse(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        let network = text.parse::<Self>().map(|network| network.trunc());
        network
            .or_else(|_| text.parse().map(|ip: IpAddr| Self::from(ip)))
            .map(unmapped)
            .map_err(|_| found(value))
    }

    fn show(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// Clients' addresses are compared as IPv4 where they are mapped into IPv6; so are these.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let address = mapped.addr().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(96);
    address
        .zip(length)
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok())
        .map_or(network, |network| IpNet::V4(network.trunc()))
}

impl Setting for PathBuf {
    fn allowed() -> String {
        "a path".to_owned()
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let path = text(value)?;
        if path.is_empty() {
            Err(found(value))
        } else {
            Ok(path.into())
        }
    }

    fn show(&self) -> Value {
        Value::String(self.display().to_string())
    }
}

/// A setting that may be absent, which is written `none`.
impl<T: Setting> Setting for Option<T> {
    fn allowed() -> String {
        format!("`none`, or {}", T::allowed())
    }

    fn parse(value: &Value) -> Result<Self, String> {
        if value.as_str() == Some("none") {
            Ok(None)
        } else {
            T::parse(value).map(Some)
        }
    }

    fn show(&self) -> Value {
        self.as_ref()
            .map_or_else(|| Value::String("none".to_owned()), T::show)
    }
}

/// A list, or one text with commas; the empty text is the empty list.
impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list of these: {}", T::allowed())
    }

    fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => parse_each(items),
            Value::String(text) if text.trim().is_empty() => Ok(Self::new()),
            Value::String(text) => parse_each(&split_at_commas(text)),
            _ => Err(found(value)),
        }
    }

    fn show(&self) -> Value {
        Value::Array(self.iter().map(T::show).collect())
    }
}

fn split_at_commas(text: &str) -> Vec<Value> {
    text.split(',')
        .map(|item| Value::String(item.trim().to_owned()))
        .collect()
}

/// Every item, or what is wrong with every one that is not allowed.
fn parse_each<T: Setting>(items: &[Value]) -> Result<Vec<T>, String> {
    let (parsed, wrong): (Vec<_>, Vec<_>) = items.iter().map(T::parse).partition(Result::is_ok);
    if wrong.is_empty() {
        Ok(parsed.into_iter().flatten().collect())
    } else {
        let wrong: Vec<_> = wrong.into_iter().filter_map(Result::err).collect();
        Err(wrong.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::Anything;
    use super::*;

    fn from_text<T: Setting>(text: &str) -> Result<T, String> {
        Written::Text(text.to_owned()).read(&Anything)
    }

    #[test]
    fn text_is_read_as_itself_before_it_is_read_as_toml() {
        assert_eq!(from_text::<String>("true"), Ok("true".to_owned()));
        assert_eq!(from_text::<bool>("true"), Ok(true));
        assert_eq!(from_text::<u32>("7"), Ok(7));
        assert_eq!(from_text::<u32>("seven"), Err("found \"seven\"".to_owned()));
        assert_eq!(from_text::<u32>("-1"), Err("found -1".to_owned()));
    }

    #[test]
    fn lists_are_written_with_commas_or_as_toml() {
        let both: Vec<SocketAddr> = vec![([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()];
        assert_eq!(from_text("127.0.0.1:1, 127.0.0.1:2"), Ok(both.clone()));
        assert_eq!(from_text(r#"["127.0.0.1:1", "127.0.0.1:2"]"#), Ok(both));
        assert_eq!(from_text(""), Ok(Vec::<SocketAddr>::new()));
    }

    #[test]
    fn every_wrong_item_of_a_list_is_told() {
        let error = from_text::<Vec<IpNet>>("10.0.0.0/8,ten,10.0.0.0/33");
        assert_eq!(error, Err(r#"found "ten", found "10.0.0.0/33""#.to_owned()));
    }

    #[test]
    fn networks_are_read_from_addresses_and_lose_their_host_bits() {
        let show = |text| from_text::<IpNet>(text).map(|network| network.to_string());
        assert_eq!(show("10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
        assert_eq!(show("2001:db8::1").as_deref(), Ok("2001:db8::1/128"));
        assert_eq!(show("10.1.2.3/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(show("::ffff:10.1.2.3/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(show("::ffff:10.1.2.3").as_deref(), Ok("10.1.2.3/32"));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(from_text("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(from_text::<Duration>("30"), Err("found 30".to_owned()));
        assert!(from_text::<Duration>("30 parsecs").is_err_and(|error| error.contains("parsecs")));
    }

    #[test]
    fn a_long_or_many_lined_text_is_told_on_one_short_line() {
        let long = found(&Value::String("a\n".repeat(1000)));
        assert!(long.len() < 200, "{long}");
        assert!(!long.contains('\n'), "{long}");
    }
}
