//! The certificates of a bed, all signed by one authority, and a kubeconfig for each client.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::init::{NODE_ADDRESS, SERVICE_ADDRESS};

/// The API server's address for clients in the bed.
pub(crate) const API_SERVER: &str = "https://127.0.0.1:443";

/// The files, by name: `ca.crt`, `<leaf>.crt`, `<leaf>.key`, `sa.key`, `sa.pub`, `<client>.kubeconfig`.
#[derive(Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
}

/// The clients that have a kubeconfig: `(file, organization, common name)`.
const CLIENTS: [(&str, &str, &str); 4] = [
    ("admin", "system:masters", "admin"),
    ("kubelet-client", "system:masters", "kube-apiserver"),
    ("scheduler", "", "system:kube-scheduler"),
    ("controller-manager", "", "system:kube-controller-manager"),
];

struct CertificateAuthority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// Makes everything in an empty folder.
    pub(crate) fn make(folder: &Path, node: &str) -> anyhow::Result<Pki> {
        fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
        let pki = Pki { folder: folder.to_owned() };
        let authority = CertificateAuthority::make(folder)?;
        // The scheduler and the controller manager use it too: all of them serve at 127.0.0.1.
        let names = ["127.0.0.1", SERVICE_ADDRESS, "localhost", "kubernetes.default.svc"];
        authority.issue("serving", "", "serving", &[Purpose::ServerAuth], &names)?;
        let (purposes, names) =
            ([Purpose::ClientAuth, Purpose::ServerAuth], [NODE_ADDRESS, "127.0.0.1", node]);
        authority.issue("node", "system:nodes", &format!("system:node:{node}"), &purposes, &names)?;
        for (file, organization, name) in CLIENTS {
            authority.issue(file, organization, name, &[Purpose::ClientAuth], &[])?;
        }
        for client in CLIENTS.iter().map(|client| client.0).chain(["node"]) {
            pki.write_kubeconfig(client)?;
        }
        let accounts = KeyPair::generate().context("making the key for service accounts")?;
        write(&pki.file("sa.key"), &accounts.serialize_pem())?;
        write(&pki.file("sa.pub"), &accounts.public_key_pem())?;
        Ok(pki)
    }

    /// A file of the folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kubeconfig of a client.
    pub(crate) fn kubeconfig(&self, client: &str) -> PathBuf {
        self.file(&format!("{client}.kubeconfig"))
    }

    fn write_kubeconfig(&self, client: &str) -> anyhow::Result<()> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bed",
            "clusters": [{"name": "bed", "cluster": {
                "server": API_SERVER,
                "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{"name": client, "user": {
                "client-certificate": self.file(&format!("{client}.crt")),
                "client-key": self.file(&format!("{client}.key")),
            }}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": client}}],
        });
        write(&self.kubeconfig(client), &config.to_string())
    }
}

impl CertificateAuthority {
    fn make(folder: &Path) -> anyhow::Result<CertificateAuthority> {
        let key = KeyPair::generate().context("making the authority's key")?;
        let mut request = request("", "bed");
        request.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        request.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = request.self_signed(&key).context("signing the authority's certificate")?;
        write(&folder.join("ca.crt"), &certificate.pem())?;
        Ok(CertificateAuthority { folder: folder.to_owned(), issuer: Issuer::new(request, key) })
    }

    fn issue(
        &self,
        file: &str,
        organization: &str,
        name: &str,
        purposes: &[Purpose],
        alternative_names: &[&str],
    ) -> anyhow::Result<()> {
        let key = KeyPair::generate().with_context(|| format!("making the key of {file}"))?;
        let mut request = request(organization, name);
        request.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.extended_key_usages = purposes.to_vec();
        for name in alternative_names {
            request.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().context("naming a certificate")?),
            });
        }
        let certificate = request.signed_by(&key, &self.issuer).with_context(|| format!("signing {file}"))?;
        write(&self.folder.join(format!("{file}.crt")), &certificate.pem())?;
        write(&self.folder.join(format!("{file}.key")), &key.serialize_pem())
    }
}

fn request(organization: &str, name: &str) -> CertificateParams {
    let mut request = CertificateParams::default();
    request.distinguished_name = rcgen::DistinguishedName::new();
    if !organization.is_empty() {
        request.distinguished_name.push(DnType::OrganizationName, organization);
    }
    request.distinguished_name.push(DnType::CommonName, name);
    request
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
