//! What kind of gateways the histories run on, and what happens to them.

use crate::adversary::Kind;
use crate::support::real;

/// A kind of histories, each with a test of its own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    #[default]
    /// Gateways in the test's own process, on stores that fail.
    Here,
    /// Gateways that are processes: now and then one gets a SIGKILL, and is started again.
    Killed,
    /// The same on folders, where calls to the system fail, and the power.
    Failing,
    /// Gateways in the test's own process, on a server that is no double, and where nothing is made to fail.
    Real,
}

impl Lane {
    /// Words of its test's name and no other's.
    pub(crate) fn test(self) -> &'static str {
        match self {
            Self::Here => "whatever_happens",
            Self::Killed => "whoever_is_killed",
            Self::Failing => "whatever_fails",
            Self::Real => "whichever_server",
        }
    }

    /// How the gateway has to be built for it.
    pub(crate) fn features(self) -> &'static str {
        match self {
            Self::Here | Self::Killed | Self::Real => "",
            Self::Failing => "--features interposable ",
        }
    }

    /// How many histories there are on each store, where nobody says how many.
    pub(crate) fn histories(self) -> u64 {
        match self {
            Self::Here => 300,
            Self::Killed => 30,
            Self::Failing => 200,
            Self::Real => 500,
        }
    }

    /// The stores that it is for.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Here | Self::Killed => &Kind::ALL,
            Self::Failing => &[Kind::Local],
            Self::Real => match &*real::scheme() {
                "s3" => &[Kind::S3],
                "gs" => &[Kind::Google],
                "az" => &[Kind::Azure],
                scheme => panic!("no store of {scheme}"),
            },
        }
    }

    pub(crate) fn has_processes(self) -> bool {
        matches!(self, Self::Killed | Self::Failing)
    }

    /// One history in so many has files of more than a part.
    pub(crate) fn large_one_in(self) -> u32 {
        match self {
            Self::Here | Self::Real => 12,
            Self::Killed | Self::Failing => 4,
        }
    }

    /// Whether gateways are killed, and directories renamed more often, which takes long enough to be killed amid.
    pub(crate) fn has_kills(self) -> bool {
        self == Self::Killed
    }
}
