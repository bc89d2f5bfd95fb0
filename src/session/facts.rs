//! The facts of `MLST` and `MLSD` (RFC 3659, section 7.5), and which of them a client wants.

/// One fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the fact of its name in RFC 3659")]
pub enum Fact {
    Type,
    Size,
    Modify,
    Perm,
    Unique,
}

impl Fact {
    /// All that there are, in the order in which they are written.
    pub const ALL: [Self; 5] = [
        Self::Type,
        Self::Size,
        Self::Modify,
        Self::Perm,
        Self::Unique,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Size => "size",
            Self::Modify => "modify",
            Self::Perm => "perm",
            Self::Unique => "unique",
        }
    }
}

/// A choice of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts(u8);

impl Facts {
    /// Every one: what a client gets that has not chosen.
    #[must_use]
    pub fn all() -> Self {
        Fact::ALL.into_iter().collect()
    }

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// The choice that `OPTS MLST` makes; names that are no fact of ours are passed over, as RFC
    /// 3659 says.
    #[must_use]
    pub fn chosen(names: &str) -> Self {
        let wanted = |fact: &Fact| {
            let mut names = names.split(';');
            names.any(|name| name.trim().eq_ignore_ascii_case(fact.name()))
        };
        Fact::ALL.into_iter().filter(wanted).collect()
    }

    /// Whether this one is wanted.
    #[must_use]
    pub fn contains(self, fact: Fact) -> bool {
        self.0 & bit(fact) != 0
    }

    /// The names of those wanted, each with its semicolon.
    #[must_use]
    pub fn names(self) -> String {
        let wanted = Fact::ALL.into_iter().filter(|fact| self.contains(*fact));
        wanted.flat_map(|fact| [fact.name(), ";"]).collect()
    }

    /// All names, those wanted with an asterisk: the line of `FEAT`.
    #[must_use]
    pub fn features(self) -> String {
        let end = |fact| if self.contains(fact) { "*;" } else { ";" };
        let shown = |fact: Fact| [fact.name(), end(fact)];
        Fact::ALL.into_iter().flat_map(shown).collect()
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl FromIterator<Fact> for Facts {
    fn from_iter<I: IntoIterator<Item = Fact>>(facts: I) -> Self {
        Self(facts.into_iter().map(bit).fold(0, |all, one| all | one))
    }
}

fn bit(fact: Fact) -> u8 {
    1 << fact as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_remembered_and_shown() {
        let chosen = Facts::chosen("Size; TYPE;nonsense;");
        assert_eq!(chosen.names(), "type;size;");
        assert_eq!(chosen.features(), "type*;size*;modify;perm;unique;");
        assert_eq!(Facts::chosen("").names(), "");
        assert_eq!(
            Facts::all().features(),
            "type*;size*;modify*;perm*;unique*;"
        );
    }
}
