//! Certificates of a test, and requests over TLS.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

use afd_tests::agent::TIMEOUT;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// A web configuration with TLS.
pub(crate) const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// An authority that issues certificates.
pub(crate) struct TestAuthority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    pub(crate) fn new() -> TestAuthority {
        let key = KeyPair::generate().expect("a key can be generated");
        let mut params = CertificateParams::new(Vec::new()).expect("the names are valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate can be made").pem();
        TestAuthority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `localhost`, and its key.
    pub(crate) fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key can be generated");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("the names are valid");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes the files of a server, with a certificate of its own.
    pub(crate) fn write(&self, folder: &Path, config: &str) {
        let (certificate, key) = self.issue();
        for (name, text) in [
            ("ca.crt", &self.certificate),
            ("server.crt", &certificate),
            ("server.key", &key),
            ("web-config.yml", &config.to_owned()),
        ] {
            fs::write(folder.join(name), text).expect("the folder is writable");
        }
    }

    /// A client that trusts this authority, with a certificate or without.
    pub(crate) fn client(&self, own: Option<(String, String)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.certificate)).expect("the authority is valid");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some((own, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is a key");
                builder
                    .with_client_auth_cert(vec![certificate(&own)], key)
                    .expect("key and certificate match")
            }
        })
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is a certificate")
}

/// The status of a GET request over TLS, and the response.
pub(crate) fn tls_get(
    address: &str,
    client: &Arc<ClientConfig>,
    path: &str,
    headers: &str,
) -> Result<(u16, String), String> {
    let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout can be set");
    let name = ServerName::try_from("localhost").expect("it is a name");
    let session = ClientConnection::new(Arc::clone(client), name).map_err(|error| error.to_string())?;
    let mut stream = StreamOwned::new(session, stream);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
        .map_err(|error| error.to_string())?;
    let mut response = String::new();
    stream.read_to_string(&mut response).map_err(|error| error.to_string())?;
    let status = response.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| (status, response)).ok_or_else(|| "no response".to_owned())
}
