//! The registered keys, shared between the executor, which writes, and the pipeline, which reads.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::ReplayWindow;
use crate::types::{KeyId, OrgId, Roles, Rules, TimestampMs};

/// One registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The Ed25519 key. Once registered under a number it never changes.
    pub public: [u8; 32],
    /// What it may do.
    pub roles: Roles,
    /// Start of validity, inclusive.
    pub from: TimestampMs,
    /// End of validity, exclusive.
    pub to: TimestampMs,
    /// Whether it was not revoked, and its organisation neither suspended nor removed.
    pub active: bool,
    /// Sequence numbers that committed transactions have used.
    pub window: ReplayWindow,
}

impl KeyEntry {
    /// Whether a transaction that executes at `time` may be signed by it.
    #[must_use]
    pub fn is_active_at(&self, time: TimestampMs) -> bool {
        self.active && self.from <= time && time < self.to
    }
}

/// Keys by organisation and number.
pub type KeyMap = BTreeMap<(OrgId, KeyId), KeyEntry>;

/// A handle on the registered keys, and on the rules by which the executor reads transactions. Clones share them.
///
/// The executor's view of a commit decides; whoever reads ahead of it reads advice that may be a few commits old. Only
/// what never changes, the public key under a number, may be relied on.
#[derive(Debug, Clone, Default)]
pub struct KeyDirectory {
    keys: Arc<RwLock<KeyMap>>,
    rules: Arc<OnceLock<Rules>>,
}

impl KeyDirectory {
    /// Over keys that are known from the start.
    #[must_use]
    pub fn new(keys: KeyMap) -> Self {
        Self { keys: Arc::new(RwLock::new(keys)), rules: Arc::default() }
    }

    /// The rules of the network, by which transactions are decoded. Until an executor was opened over this, the newest: what is
    /// called invalid ahead of the executor stays so, and it may know better.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules.get().copied().unwrap_or(Rules::NEWEST)
    }

    /// Says which rules the network has. For the executor alone, when it is opened.
    ///
    /// # Panics
    /// If it was said before, and otherwise: a directory belongs to one network.
    pub fn set_rules(&self, rules: Rules) {
        let held = *self.rules.get_or_init(|| rules);
        assert_eq!(held, rules, "one directory of keys for two networks");
    }

    /// Looks at all keys. Writers wait meanwhile: copy what is needed and return.
    pub fn read<T>(&self, look: impl FnOnce(&KeyMap) -> T) -> T {
        // A panic elsewhere cannot have left an entry half-written that matters: see `write`.
        look(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes keys, all at once as readers see it. For the executor alone.
    ///
    /// A panic inside `change` is a bug of the executor, which ends the node before anything follows from it.
    pub fn write<T>(&self, change: impl FnOnce(&mut KeyMap) -> T) -> T {
        change(&mut self.keys.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The public key under a number.
    #[must_use]
    pub fn public(&self, org: OrgId, key: KeyId) -> Option<[u8; 32]> {
        self.read(|keys| keys.get(&(org, key)).map(|entry| entry.public))
    }

    /// The public keys under many numbers, in one look.
    #[must_use]
    pub fn publics(&self, wanted: impl Iterator<Item = (OrgId, KeyId)>) -> Vec<Option<[u8; 32]>> {
        self.read(|keys| wanted.map(|id| keys.get(&id).map(|entry| entry.public)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(byte: u8) -> KeyEntry {
        KeyEntry {
            public: [byte; 32],
            roles: Roles::RECORD,
            from: TimestampMs(100),
            to: TimestampMs(200),
            active: true,
            window: ReplayWindow::new(),
        }
    }

    #[test]
    fn validity_includes_its_start_and_not_its_end() {
        let mut key = entry(1);
        let at = |key: &KeyEntry, ms| key.is_active_at(TimestampMs(ms));
        assert!(!at(&key, 99) && at(&key, 100) && at(&key, 199) && !at(&key, 200));
        key.active = false;
        assert!(!at(&key, 150));
    }

    #[test]
    fn clones_share_what_is_written() {
        let directory = KeyDirectory::default();
        let reader = directory.clone();
        assert_eq!(reader.public(OrgId(1), KeyId(0)), None);
        directory.write(|keys| keys.insert((OrgId(1), KeyId(0)), entry(7)));
        assert_eq!(reader.public(OrgId(1), KeyId(0)), Some([7; 32]));
        let wanted = [(OrgId(2), KeyId(0)), (OrgId(1), KeyId(0))];
        assert_eq!(reader.publics(wanted.into_iter()), [None, Some([7; 32])]);
    }
}
