//! The TLS section of a web configuration.

use std::sync::Arc;

use tokio_rustls::rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use super::{TlsSection, WebConfigError};

/// TLS as it is configured.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// For rustls.
    pub server: Arc<ServerConfig>,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// Whether TLS 1.2 is refused.
    pub requires_tls13: bool,
}

/// Whether clients need certificates, from the least to the most secure.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ClientCertificates {
    /// They are not asked.
    Ignored,
    /// A certificate is verified, but not required.
    VerifiedIfGiven,
    /// A verified certificate is required.
    Required,
}

pub(super) fn settings(
    section: &TlsSection,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
) -> Result<TlsSettings, WebConfigError> {
    let provider = Arc::new(ring::default_provider());
    let client_certificates = client_auth(section.client_auth_type.as_deref())?;
    let verifier = client_verifier(client_certificates, client_ca, &provider)?;
    let certificate = certificate.ok_or_else(|| value("tls_server_config has neither cert_file nor cert"))?;
    let key = key.ok_or_else(|| value("tls_server_config has neither key_file nor key"))?;
    let chain = certificates("the server certificate", &certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| value(format!("the server key is not a PEM key: {error}")))?;
    let versions = versions(section.min_version.as_deref(), section.max_version.as_deref())?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| value(error.to_string()))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|error| value(format!("the server certificate and key cannot be used: {error}")))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions are not resumed: they would take memory for each client, and outlive a change of the client CA.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let requires_tls13 = !versions.iter().any(|version| version.version == ProtocolVersion::TLSv1_2);
    Ok(TlsSettings { server: Arc::new(server), client_certificates, requires_tls13 })
}

fn client_auth(kind: Option<&str>) -> Result<ClientCertificates, WebConfigError> {
    match kind {
        None | Some("" | "NoClientCert") => Ok(ClientCertificates::Ignored),
        Some("VerifyClientCertIfGiven") => Ok(ClientCertificates::VerifiedIfGiven),
        Some("RequireAndVerifyClientCert") => Ok(ClientCertificates::Required),
        Some(other) => Err(value(format!(
            "client_auth_type {other:?} is not supported, because it verifies nothing or is unknown; supported: NoClientCert, \
             VerifyClientCertIfGiven, RequireAndVerifyClientCert"
        ))),
    }
}

fn client_verifier(
    demand: ClientCertificates,
    client_ca: Option<Vec<u8>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, WebConfigError> {
    let ca = match (demand, client_ca) {
        (ClientCertificates::Ignored, None) => return Ok(None),
        (ClientCertificates::Ignored, Some(_)) => {
            return Err(value(
                "a client CA without client_auth_type has no effect; use RequireAndVerifyClientCert",
            ));
        }
        (_, None) => return Err(value("this client_auth_type needs client_ca_file or client_ca")),
        (_, Some(ca)) => ca,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the client CA", &ca)? {
        roots.add(certificate).map_err(|error| value(format!("the client CA cannot be used: {error}")))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match demand {
        ClientCertificates::Required => builder,
        ClientCertificates::Ignored | ClientCertificates::VerifiedIfGiven => builder.allow_unauthenticated(),
    };
    builder.build().map(Some).map_err(|error| value(format!("the client CA cannot be used: {error}")))
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(value(format!("{what} contains no PEM certificate")))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(value(format!("{what} is not a PEM certificate: {error}"))),
    }
}

fn versions(
    min: Option<&str>,
    max: Option<&str>,
) -> Result<Vec<&'static SupportedProtocolVersion>, WebConfigError> {
    let rank = |name: &str| match name {
        "TLS12" => Ok(2),
        "TLS13" => Ok(3),
        other => Err(value(format!("TLS version {other:?} is not supported; supported: TLS12, TLS13"))),
    };
    let (min, max) = (rank(min.unwrap_or("TLS12"))?, rank(max.unwrap_or("TLS13"))?);
    let versions: Vec<_> =
        [(2, &TLS12), (3, &TLS13)].into_iter().filter(|(rank, _)| (min..=max).contains(rank)).collect();
    if versions.is_empty() {
        return Err(value("min_version is above max_version"));
    }
    Ok(versions.into_iter().map(|(_, version)| version).collect())
}

fn value(message: impl Into<String>) -> WebConfigError {
    WebConfigError::Value(message.into())
}
