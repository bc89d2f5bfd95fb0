//! The macro that declares a setting once, and what it makes of the declaration.
//!
//! From one block per section, `settings!` makes the section's struct with its defaults, the way to
//! set one of its fields by name ([`Section::set`]) and the description of each
//! ([`Section::settings`]). It must stay the only place where the name of a setting meets its
//! field.

use toml::Value;

use super::error::Problem;
use super::rule::Rule;
use super::setting::{Setting, Written};

/// A section as code sees it that handles all sections alike.
pub(super) trait Section {
    /// As in the file, without its brackets: `ftp`.
    fn name(&self) -> &'static str;
    /// What its settings are about, as Markdown.
    fn doc(&self) -> String;
    /// Each setting with the value that it has in `self`.
    fn settings(&self) -> Vec<Description>;
    /// Sets the setting of that name; `None` if there is none.
    fn set(&mut self, name: &str, written: &Written) -> Option<Result<(), Problem>>;
}

/// What an operator is told about one setting.
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) allowed: String,
    pub(super) value: Value,
    pub(super) doc: String,
}

/// Declares sections and their settings.
///
/// A setting is `name: Type = default,` or, with a limit, `name: Type where Rule = default,`.
///
/// Every section and every setting needs a doc comment: it is the text of `docs/configuration.md`.
macro_rules! settings {
    (
        $(#[$config_attribute:meta])*
        pub struct $Config:ident;
        $(
            $(#[doc = $section_doc:literal])+
            $section:ident: $Section:ident {
                $(
                    $(#[doc = $doc:literal])+
                    $name:ident: $type:ty $(where $rule:tt)? = $default:expr,
                )*
            }
        )+
    ) => {
        $(#[$config_attribute])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $Config {
            $($(#[doc = $section_doc])+ pub $section: $Section,)+
            /// The stores besides [`store`](Self::store), by name.
            pub stores: std::collections::BTreeMap<$crate::config::StoreName, Store>,
        }

        impl $Config {
            /// Every section, in the order of the reference.
            pub(super) fn sections(&self) -> Vec<&dyn $crate::config::declare::Section> {
                vec![$(&self.$section),+]
            }

            /// The section of that name.
            pub(super) fn section_mut(
                &mut self,
                name: &str,
            ) -> Option<&mut dyn $crate::config::declare::Section> {
                match name {
                    $(stringify!($section) => Some(&mut self.$section),)+
                    _ => {
                        let name = $crate::config::store::named::name_of(name)?;
                        Some(self.stores.entry(name).or_default())
                    }
                }
            }
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                    pub $name: $type,
                )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($name: $default,)* }
                }
            }

            impl $crate::config::declare::Section for $Section {
                fn name(&self) -> &'static str {
                    stringify!($section)
                }

                fn doc(&self) -> String {
                    $crate::config::declare::markdown(&[$($section_doc),+])
                }

                fn settings(&self) -> Vec<$crate::config::declare::Description> {
                    vec![$($crate::config::declare::describe(
                        stringify!($name), &self.$name, &settings!(@rule $($rule)?), &[$($doc),+],
                    )),*]
                }

                fn set(
                    &mut self,
                    name: &str,
                    written: &$crate::config::setting::Written,
                ) -> Option<Result<(), $crate::config::error::Problem>> {
                    $(if name == stringify!($name) {
                        return Some($crate::config::declare::assign(
                            &mut self.$name, &settings!(@rule $($rule)?), written,
                        ));
                    })*
                    // A section without settings reads neither.
                    let _ = (name, written);
                    None
                }
            }
        )+
    };
    (@rule) => { $crate::config::rule::Anything };
    (@rule $rule:tt) => { $rule };
}

pub(super) fn describe<T: Setting>(
    name: &'static str,
    value: &T,
    rule: &impl Rule<T>,
    doc: &[&str],
) -> Description {
    Description {
        name,
        allowed: rule.allowed(),
        value: value.show(),
        doc: markdown(doc),
    }
}

pub(super) fn assign<T: Setting>(
    field: &mut T,
    rule: &impl Rule<T>,
    written: &Written,
) -> Result<(), Problem> {
    let refusal = |found| Problem::Value {
        found,
        allowed: rule.allowed(),
    };
    let value = written.read(rule).map_err(refusal)?;
    field.replace_by(value);
    Ok(())
}

/// The lines of a doc comment, without the blank that follows each `///`.
pub(super) fn markdown(doc: &[&str]) -> String {
    let lines: Vec<_> = doc
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n")
}
