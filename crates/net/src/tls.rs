//! Certificates on the way to relays. Those of nodes are not among them: the transport proves the
//! key of a node whatever way its packets take.

use std::io;
use std::sync::Arc;

use iroh::tls::CaTlsConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::RelayUrl;

/// The name in the certificate of a relay; nobody reads it.
const NAME: &str = "relay.invalid";

/// Takes any certificate of relays that were named with `http`, and asks the usual authorities
/// about others. Whoever stands between this node and a relay without a certificate can tell this
/// node a wrong address of its own or drop its packets, as the relay can: the way is worse then,
/// and nothing is read or forged.
#[derive(Debug)]
struct Verifier {
    plain: Vec<String>,
    usual: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = server_name.to_str();
        if self.plain.iter().any(|host| *host == name) {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// How the certificates of these relays are checked.
pub(crate) fn authorities(relays: &[RelayUrl]) -> CaTlsConfig {
    let plain = relays.iter().filter(|relay| relay.is_plain());
    // A certificate names an IPv6 address without its brackets.
    let bare = |relay: &RelayUrl| relay.host().trim_matches(['[', ']']).to_owned();
    let plain: Vec<String> = plain.map(bare).collect();
    CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
        let usual = CaTlsConfig::embedded().server_cert_verifier(provider)?;
        Ok(Arc::new(Verifier { plain: plain.clone(), usual }))
    }))
}

/// A server with a key and certificate of its own, made for this run.
pub(crate) fn self_signed() -> io::Result<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = iroh::tls::default_provider();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let certificate = vec![made.cert.der().clone()];
    let server = server.with_no_client_auth();
    server.with_single_cert(certificate, PrivateKeyDer::from(key)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relays_without_a_scheme_for_it_need_no_authority() {
        let relays = ["http://192.0.2.1:7", "http://[::1]:7", "https://relay.example"];
        let relays: Vec<RelayUrl> = relays.iter().map(|text| text.parse().unwrap()).collect();
        let verifier = authorities(&relays).server_cert_verifier(iroh::tls::default_provider());
        let verifier = verifier.unwrap();
        let made = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).unwrap();
        let is_taken = |name: &str| {
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(made.cert.der(), &[], &name, &[], UnixTime::now()).is_ok()
        };
        assert!(is_taken("192.0.2.1") && is_taken("::1"));
        assert!(!is_taken("192.0.2.2") && !is_taken("relay.example"));
    }
}
