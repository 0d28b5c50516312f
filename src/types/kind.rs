//! What a transaction is, who may send it, and which kinds a network knows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a transaction is. The codes of kinds that are reserved by the format but not executed yet are not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One record version.
    RecordAnchor,
    /// Many records at once.
    RecordBatch,
    /// A consent.
    ConsentGrant,
    /// The end of a consent.
    ConsentRevoke,
    /// One access to a record.
    AccessLog,
    /// A new key of an organisation.
    KeyAdd,
    /// A vote to admit an organisation.
    OrgAdmit,
}

impl Kind {
    /// All kinds, in order of their codes.
    pub const ALL: [Self; 7] = [
        Self::RecordAnchor,
        Self::RecordBatch,
        Self::ConsentGrant,
        Self::ConsentRevoke,
        Self::AccessLog,
        Self::KeyAdd,
        Self::OrgAdmit,
    ];

    /// The byte that stands for it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::RecordAnchor => 1,
            Self::RecordBatch => 2,
            Self::ConsentGrant => 3,
            Self::ConsentRevoke => 4,
            Self::AccessLog => 5,
            Self::KeyAdd => 10,
            Self::OrgAdmit => 13,
        }
    }

    /// The kind that a byte stands for in a network of these rules.
    #[must_use]
    pub fn from_code(code: u8, rules: Rules) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code && kind.since() <= rules)
    }

    /// The first rules that know it. To those before, its code is one that stands for nothing.
    #[must_use]
    pub fn since(self) -> Rules {
        match self {
            Self::RecordAnchor
            | Self::ConsentGrant
            | Self::ConsentRevoke
            | Self::AccessLog
            | Self::KeyAdd
            | Self::OrgAdmit => Rules::One,
            Self::RecordBatch => Rules::Two,
        }
    }

    /// Name as the documents write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordAnchor => "RECORD_ANCHOR",
            Self::RecordBatch => "RECORD_BATCH",
            Self::ConsentGrant => "CONSENT_GRANT",
            Self::ConsentRevoke => "CONSENT_REVOKE",
            Self::AccessLog => "ACCESS_LOG",
            Self::KeyAdd => "KEY_ADD",
            Self::OrgAdmit => "ORG_ADMIT",
        }
    }

    /// The kind with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Which rules decide a network's order and state: a number in its genesis file, the same for all its validators from the first
/// block on. Each adds to the one before; [`crate::manual::formats`] lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum Rules {
    /// The kinds that there were before a genesis file could say: those of files that do not.
    #[default]
    One,
    /// RECORD_BATCH.
    Two,
}

impl Rules {
    /// All of them, from the oldest on.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];
    /// Those of new networks.
    pub const NEWEST: Self = Self::Two;

    /// The number that stands for them.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// Whether these are the rules of genesis files that do not say.
    #[must_use]
    pub fn is_oldest(&self) -> bool {
        *self == Self::One
    }
}

impl TryFrom<u64> for Rules {
    type Error = String;

    fn try_from(number: u64) -> Result<Self, String> {
        Self::ALL.into_iter().find(|rules| rules.number() == number).ok_or_else(|| {
            format!(
                "parameters.rules: {number}, this program knows 1 to {}; a greater number is of a newer program: \
                 install the release that the network runs on",
                Self::NEWEST
            )
        })
    }
}

impl From<Rules> for u64 {
    fn from(rules: Rules) -> Self {
        rules.number()
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// What a key may be used for: a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(pub u16);

impl Roles {
    /// Manages the organisation's keys. Only the root key, number 0, has it.
    pub const ROOT: Self = Self(1);
    /// Anchors records.
    pub const RECORD: Self = Self(1 << 1);
    /// Grants and revokes consents.
    pub const CUSTODIAN: Self = Self(1 << 2);
    /// Logs accesses.
    pub const ACCESS: Self = Self(1 << 3);
    /// Votes for the organisation, if it is a member that governs.
    pub const GOVERN: Self = Self(1 << 4);
    /// Bits that KEY_ADD may give. ROOT is not among them.
    pub const GRANTABLE: Self = Self(0b1_1110);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rules_know_what_those_before_them_knew() {
        assert_eq!((Rules::ALL.first(), Rules::ALL.last()), (Some(&Rules::default()), Some(&Rules::NEWEST)));
        for code in 0..=u8::MAX {
            let known = Rules::ALL.map(|rules| Kind::from_code(code, rules));
            for pair in known.windows(2) {
                assert!(pair[0].is_none() || pair[0] == pair[1], "{code}: {pair:?}");
            }
        }
        let of =
            |rules| Kind::ALL.into_iter().filter(move |kind| Kind::from_code(kind.code(), rules).is_some());
        assert_eq!((of(Rules::One).count(), of(Rules::Two).count()), (6, 7));
        assert_eq!(Kind::from_code(2, Rules::One), None);
        assert_eq!(Kind::from_code(2, Rules::Two), Some(Kind::RecordBatch));
    }

    #[test]
    fn numbers_that_stand_for_no_rules_are_refused_with_what_to_do() {
        for rules in Rules::ALL {
            assert_eq!(Rules::try_from(rules.number()), Ok(rules));
        }
        for number in [0, 3, u64::MAX] {
            let why = Rules::try_from(number).unwrap_err();
            assert!(why.contains(&format!("{number}, this program knows 1 to 2; a greater")), "{why}");
            assert!(why.contains("install the release"), "{why}");
        }
    }
}
