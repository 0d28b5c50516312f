//! TLS 1.3 by Ed25519 raw public keys (RFC 7250): a peer *is* its network key from the genesis.
//!
//! There are no certificates, names or dates to check. Each side proves that it holds the secret key of the public key
//! that it shows (RFC 8446, section 4.4.3), and the verifiers here accept listed keys only, so anybody else is refused
//! inside the handshake, before a byte of application data. Key exchange is X25519MLKEM768 with X25519 as the fallback.
//! No session tickets, no resumption, no early data: each connection proves its key anew.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError,
    PeerMisbehaved, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use super::NetError;
use crate::crypto::SecretKey;
use crate::types::{PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST};

/// ALPN of connections between validators, best first: the place in the list says the version of the protocol.
pub const PEER_ALPN: [&[u8]; 2] = [b"salus/2", b"salus/1"];
/// ALPN of connections from clients.
pub const CLIENT_ALPN: &[u8] = b"salus-client/1";
/// TLS asks for a server name; keys are checked, so it says nothing and is not sent.
pub const SERVER_NAME: &str = "salus.invalid";

/// `SubjectPublicKeyInfo` of an Ed25519 key (RFC 8410, section 4) up to the key's 32 bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS #8 of an Ed25519 key (RFC 8410, section 7) up to the seed's 32 bytes.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A network key, ready to prove itself in handshakes.
#[derive(Clone)]
pub struct Identity {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
    public: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", hex::encode(self.public))
    }
}

impl Identity {
    /// From a network key.
    pub fn new(key: &SecretKey) -> Result<Self, NetError> {
        let provider = Arc::new(provider());
        let mut pkcs8 = Zeroizing::new(PKCS8_PREFIX.to_vec());
        pkcs8.extend_from_slice(&*key.seed());
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice())).clone_key();
        let signer = provider
            .key_provider
            .load_private_key(der)
            .map_err(|source| NetError::Tls { what: "network key", source })?;
        let public = key.public();
        let certified = Arc::new(CertifiedKey::new(vec![spki(&public)], signer));
        Ok(Self { provider, certified, public })
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The accepting side between validators: asks for the dialler's key and accepts those of `allowed`.
    pub fn peer_server(&self, allowed: impl IntoIterator<Item = [u8; 32]>) -> Result<ServerConfig, NetError> {
        let verifier = Arc::new(KeyVerifier::new(&self.provider, allowed));
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| NetError::Tls { what: "TLS 1.3 server", source })?
            .with_client_cert_verifier(verifier);
        Ok(finish_server(builder.with_cert_resolver(self.server_key()), &PEER_ALPN))
    }

    /// The dialling side between validators: shows this key, accepts `expected` and no other.
    pub fn peer_client(&self, expected: [u8; 32]) -> Result<ClientConfig, NetError> {
        let resolver = Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.certified.clone()));
        let builder = client_builder(self.provider.clone(), expected)?;
        Ok(finish_client(builder.with_client_cert_resolver(resolver), &PEER_ALPN))
    }

    /// The accepting side of the client plane: shows this key, asks for none.
    pub fn client_plane_server(&self) -> Result<ServerConfig, NetError> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| NetError::Tls { what: "TLS 1.3 server", source })?
            .with_no_client_auth();
        Ok(finish_server(builder.with_cert_resolver(self.server_key()), &[CLIENT_ALPN]))
    }

    fn server_key(&self) -> Arc<AlwaysResolvesServerRawPublicKeys> {
        Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.certified.clone()))
    }
}

/// The dialling side of the client plane: accepts the validator's network key `expected` and no other, shows none.
pub fn client_plane_client(expected: [u8; 32]) -> Result<ClientConfig, NetError> {
    let builder = client_builder(Arc::new(provider()), expected)?;
    Ok(finish_client(builder.with_no_client_auth(), &[CLIENT_ALPN]))
}

/// Version of the protocol between validators that a connection's ALPN stands for.
#[must_use]
pub fn peer_version(alpn: &[u8]) -> Option<u16> {
    let newest = PROTOCOL_VERSION;
    (PROTOCOL_VERSION_OLDEST..=newest).rev().zip(PEER_ALPN).find(|(_, name)| *name == alpn).map(|(v, _)| v)
}

/// The Ed25519 key that a connection's other side proved to hold.
#[must_use]
pub fn proven_key(chain: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
    match chain {
        [only] => raw_key(only),
        _ => None,
    }
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client_builder(provider: Arc<CryptoProvider>, expected: [u8; 32]) -> Result<ClientBuilder, NetError> {
    let verifier = Arc::new(KeyVerifier::new(&provider, [expected]));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| NetError::Tls { what: "TLS 1.3 client", source })?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn finish_server(mut config: ServerConfig, alpn: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

fn finish_client(mut config: ClientConfig, alpn: &[&[u8]]) -> ClientConfig {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config
}

fn spki(key: &[u8; 32]) -> CertificateDer<'static> {
    let mut der = SPKI_PREFIX.to_vec();
    der.extend_from_slice(key);
    CertificateDer::from(der)
}

fn raw_key(der: &CertificateDer<'_>) -> Option<[u8; 32]> {
    der.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// Accepts raw Ed25519 keys of a list, on either side of a handshake.
#[derive(Debug)]
struct KeyVerifier {
    allowed: BTreeSet<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyVerifier {
    fn new(provider: &CryptoProvider, allowed: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Self { allowed: allowed.into_iter().collect(), algorithms }
    }

    fn check(&self, key: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), TlsError> {
        let key = raw_key(key).ok_or(TlsError::InvalidCertificate(CertificateError::BadEncoding))?;
        if !rest.is_empty() || !self.allowed.contains(&key) {
            return Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }
}

/// TLS 1.2 is not offered, so a signature of that kind was not asked for.
fn refuse_tls12() -> TlsError {
    TlsError::PeerMisbehaved(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
