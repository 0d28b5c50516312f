//! Signing keys and the domains that they sign in.

use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::types::{NetworkId, SIGNATURE_BYTES};

/// What a signature is for. A signature made for one purpose never verifies for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client transaction, by a key of its organisation.
    Tx,
    /// A block header, by its author's consensus key.
    Header,
    /// A consent or its revocation, by the patient's one-time key.
    Consent,
    /// Proof that the owner of a new key holds it.
    Possession,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Header => "header",
            Self::Consent => "consent",
            Self::Possession => "possession",
        }
    }
}

/// The bytes in front of everything that is signed: `"salus/<purpose>/v1\0" ‖ network8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(Vec<u8>);

impl Domain {
    /// The domain of a purpose in a network.
    #[must_use]
    pub fn new(purpose: Purpose, network: NetworkId) -> Self {
        let mut prefix = format!("salus/{}/v1\0", purpose.name()).into_bytes();
        prefix.extend_from_slice(&network.0);
        Self(prefix)
    }

    /// The prefix.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An Ed25519 signing key (RFC 8032), wiped from memory when dropped.
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// From its 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// A fresh key from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// Its seed, to be stored in a file of mode 0600.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs `domain ‖ message`.
    #[must_use]
    pub fn sign(&self, domain: &Domain, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = Vec::with_capacity(domain.0.len() + message.len());
        bytes.extend_from_slice(&domain.0);
        bytes.extend_from_slice(message);
        self.sign_raw(&bytes)
    }

    /// Signs bytes as they are, for formats of others (signed notes) that bring their own domain.
    #[must_use]
    pub fn sign_raw(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(bytes).to_bytes()
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(public {})", hex::encode(self.public()))
    }
}
