//! Admission: what a client's bytes must be before the node spends a signature check on them.
//!
//! Cheapest test first. All but the canonical decoding and the network is advice, given against the state as executed so
//! far: at its place in the order the executor decides again, by block time.

#[cfg(test)]
pub(crate) mod fixture;

use bytes::Bytes;

use crate::error::ClientError;
use crate::execute::KeyDirectory;
use crate::limits::TRANSACTION_TIME_SKEW_MS_MAX;
use crate::types::{Body, NetworkId, TimestampMs, Transaction, TxId};

/// An admitted transaction whose signature is not checked yet. `T` is whose it is: it goes through the check with it, untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingTx<T = ()> {
    transaction: Transaction,
    id: TxId,
    public: [u8; 32],
    owner: T,
}

impl PendingTx {
    /// The same, of somebody.
    #[must_use]
    pub fn of<T>(self, owner: T) -> PendingTx<T> {
        let Self { transaction, id, public, owner: () } = self;
        PendingTx { transaction, id, public, owner }
    }
}

impl<T> PendingTx<T> {
    /// The transaction.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TxId {
        self.id
    }

    /// The registered key that it has to verify under.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Whose it is.
    #[must_use]
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// The transaction, its id, and whose it is.
    #[must_use]
    pub fn into_parts(self) -> (Transaction, TxId, T) {
        (self.transaction, self.id, self.owner)
    }
}

/// Admits one transaction that fills `bytes`, received at `now` by the node's clock.
///
/// # Errors
/// [`ClientError::Malformed`] for envelope or body, [`ClientError::WrongNetwork`], [`ClientError::BadTime`],
/// [`ClientError::UnknownKey`] for a key that is not registered or not active at `now`, [`ClientError::Replayed`].
pub fn admit(
    bytes: Bytes,
    network: NetworkId,
    now: TimestampMs,
    keys: &KeyDirectory,
) -> Result<PendingTx, ClientError> {
    let transaction = Transaction::decode(bytes, keys.rules())?;
    let envelope = *transaction.envelope();
    if envelope.network != network {
        return Err(ClientError::WrongNetwork { found: envelope.network, expected: network });
    }
    let skew = envelope.time.0.abs_diff(now.0);
    if skew > TRANSACTION_TIME_SKEW_MS_MAX {
        return Err(ClientError::BadTime(skew));
    }
    Body::of(&transaction)?;
    let found = keys.read(|keys| {
        let entry = keys.get(&(envelope.org, envelope.key)).filter(|entry| entry.is_active_at(now))?;
        Some((entry.public, entry.window.check(envelope.seq)))
    });
    let unknown = ClientError::UnknownKey { org: envelope.org.0, key: envelope.key.0 };
    let (public, unused) = found.ok_or(unknown)?;
    if !unused {
        return Err(ClientError::Replayed(envelope.seq));
    }
    Ok(PendingTx { id: transaction.id(), transaction, public, owner: () })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::fixture::{KEYS, NETWORK, NOW, ORG, directory, signed};
    use super::*;
    use crate::codec::DecodeError;
    use crate::types::{Envelope, KeyId, OrgId};

    fn admit_here(bytes: Bytes) -> Result<PendingTx, ClientError> {
        admit(bytes, NETWORK, NOW, &directory())
    }

    fn altered(alter: impl FnOnce(&mut Envelope)) -> Bytes {
        let mut envelope = fixture::envelope(0, 1);
        alter(&mut envelope);
        signed(envelope, &fixture::body()).bytes().clone()
    }

    #[test]
    fn what_is_in_order_is_admitted_with_its_id_and_key() {
        let tx = signed(fixture::envelope(1, 5), &fixture::body());
        let pending = admit_here(tx.bytes().clone()).unwrap();
        assert_eq!(pending.id(), tx.id());
        assert_eq!(*pending.public(), fixture::secret(1).public());
        assert_eq!(pending.into_parts().0, tx);
    }

    #[test]
    fn every_refusal_has_its_type() {
        let too_late = TimestampMs(NOW.0 + TRANSACTION_TIME_SKEW_MS_MAX + 1);
        let too_early = TimestampMs(NOW.0 - TRANSACTION_TIME_SKEW_MS_MAX - 1);
        let unknown = |org, key| ClientError::UnknownKey { org, key };
        let other = NetworkId(*b"another!");
        let cases = [
            (altered(|e| e.network = other), ClientError::WrongNetwork { found: other, expected: NETWORK }),
            (altered(|e| e.time = too_late), ClientError::BadTime(TRANSACTION_TIME_SKEW_MS_MAX + 1)),
            (altered(|e| e.time = too_early), ClientError::BadTime(TRANSACTION_TIME_SKEW_MS_MAX + 1)),
            (altered(|e| e.org = OrgId(99)), unknown(99, 0)),
            (altered(|e| e.key = KeyId(KEYS)), unknown(ORG.0, KEYS)),
        ];
        for (bytes, refusal) in cases {
            assert_eq!(admit_here(bytes), Err(refusal));
        }
        assert!(admit_here(altered(|e| e.time = TimestampMs(too_late.0 - 1))).is_ok());
        assert!(admit_here(altered(|e| e.time = TimestampMs(too_early.0 + 1))).is_ok());
    }

    #[test]
    fn envelope_and_body_must_decode() {
        let good = altered(|_| {});
        let mut longer = good.to_vec();
        longer.push(0);
        let short_body = signed(fixture::envelope(0, 1), b"too short").bytes().clone();
        let mut long_body = fixture::body();
        long_body.push(0);
        let long_body = signed(fixture::envelope(0, 1), &long_body).bytes().clone();
        for bytes in [Bytes::new(), good.slice(..100), longer.into(), short_body, long_body] {
            assert!(matches!(admit_here(bytes), Err(ClientError::Malformed(_))));
        }
        let huge = Bytes::from(vec![0; 1 << 20]);
        let refusal = admit_here(huge);
        assert!(matches!(refusal, Err(ClientError::Malformed(DecodeError::TooLarge { .. }))), "{refusal:?}");
    }

    #[test]
    fn inactive_keys_and_used_numbers_are_refused() {
        let keys = directory();
        let id = (ORG, KeyId(0));
        let tx = |seq| signed(fixture::envelope(0, seq), &fixture::body()).bytes().clone();
        keys.write(|keys| keys.get_mut(&id).unwrap().window.mark(100_000));
        let admit_seq = |seq| admit(tx(seq), NETWORK, NOW, &keys).map(|_| ());
        assert_eq!(admit_seq(100_000), Err(ClientError::Replayed(100_000)));
        assert_eq!(admit_seq(34_464), Err(ClientError::Replayed(34_464)));
        assert_eq!(admit_seq(34_465), Ok(()));
        assert_eq!(admit_seq(100_001), Ok(()));
        keys.write(|keys| keys.get_mut(&id).unwrap().to = NOW);
        assert_eq!(admit_seq(100_001), Err(ClientError::UnknownKey { org: ORG.0, key: 0 }));
        keys.write(|keys| {
            let entry = keys.get_mut(&id).unwrap();
            (entry.to, entry.active) = (TimestampMs(u64::MAX), false);
        });
        assert_eq!(admit_seq(100_001), Err(ClientError::UnknownKey { org: ORG.0, key: 0 }));
    }
}
