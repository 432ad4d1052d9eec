#![allow(clippy::disallowed_methods, reason = "tests write configurations")]

use std::{fs, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::{tls::ClientCertificates, *};

/// A folder with a certificate, its key and a web configuration.
fn folder(config: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let key = KeyPair::generate().expect("a key can be generated");
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate can be made");
    fs::write(folder.path().join("server.crt"), certificate.pem()).expect("the folder is writable");
    fs::write(folder.path().join("server.key"), key.serialize_pem()).expect("the folder is writable");
    fs::write(folder.path().join("web.yml"), config).expect("the folder is writable");
    folder
}

fn load(config: &str) -> Result<WebConfig, String> {
    let folder = folder(config);
    WebConfig::load(&folder.path().join("web.yml")).map_err(|error| error.to_string())
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
const USERS: &str =
    "basic_auth_users:\n  alice: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n";

#[test]
fn paths_are_relative_to_the_file() {
    let config = load(&format!("{TLS}{USERS}")).expect("the configuration is valid");
    assert_eq!(
        config.tls.map(|tls| (tls.client_certificates, tls.server.alpn_protocols.clone())),
        Some((ClientCertificates::Ignored, vec![b"http/1.1".to_vec()]))
    );
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice"]);
}

#[test]
fn client_certificates_can_be_required() {
    let more = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.crt\n  min_version: TLS13\n";
    let config = load(&format!("{TLS}{more}")).expect("the configuration is valid");
    assert_eq!(config.tls.map(|tls| tls.client_certificates), Some(ClientCertificates::Required));
}

#[test]
fn headers_of_the_toolkit_can_be_set() {
    let config = load("http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n");
    assert_eq!(config.expect("the configuration is valid").headers[0].1, "deny");
}

#[test]
fn what_is_not_supported_or_wrong_is_an_error_that_names_it() {
    let ca = "  client_ca_file: server.crt\n";
    let cases = [
        ("", "sets none of tls_server_config"),
        ("tls_server_config: {}\n", "neither cert_file nor cert"),
        ("rate_limit: {burst: 1}\n", "rate_limit"),
        (&format!("{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"), "cipher_suites"),
        (&format!("{TLS}  client_allowed_sans: [a]\n"), "client_allowed_sans"),
        (&format!("{TLS}  client_auth_type: RequireAnyClientCert\n{ca}"), "supported: NoClientCert"),
        (&format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n"), "needs client_ca_file"),
        (&format!("{TLS}{ca}"), "has no effect"),
        (&format!("{TLS}  min_version: TLS10\n"), "supported: TLS12, TLS13"),
        (&format!("{TLS}  min_version: TLS13\n  max_version: TLS12\n"), "above max_version"),
        (&format!("{TLS}  cert: x\n"), "both cert and cert_file"),
        ("tls_server_config: {cert_file: server.key, key_file: server.key}\n", "no PEM certificate"),
        ("tls_server_config: {cert_file: none.crt, key_file: server.key}\n", "none.crt cannot be read"),
        ("basic_auth_users: {alice: secret}\n", "\"alice\" is not a bcrypt hash"),
        (
            "basic_auth_users: {a: $2y$20$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
            "is above 14",
        ),
        ("http_server_config: {headers: {Server: x}}\n", "the header Server cannot be set"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}\n", "may only be deny or sameorigin"),
    ];
    for (config, expected) in cases {
        let error = load(config).expect_err(config);
        assert!(error.contains(expected), "{config}: {error}");
    }
}

#[test]
fn an_error_contains_no_secret() {
    for config in [
        "basic_auth_users:\n  alice: [verysecret]\n",
        "basic_auth_users:\n  alice: verysecret\n",
        "tls_server_config:\n  key: verysecret\n  cert: verysecret\n",
        "tls_server_config:\n  key: 'verysecret\n",
        "basic_auth_users: verysecret\n",
        "basic_auth_users:\n  alice: verysecret\n  alice: verysecret\n",
    ] {
        let error = load(config).expect_err(config);
        assert!(!error.contains("verysecret"), "{config}: {error}");
    }
}

#[test]
fn a_configuration_that_protects_less_is_recognized() {
    let config = |text: &str| load(text).expect("the configuration is valid");
    let optional =
        format!("{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: server.crt\n");
    let (tls, users) = (config(TLS), config(USERS));
    assert_eq!(users.lacks(&tls), Some("TLS"));
    assert_eq!(tls.lacks(&users), Some("users"));
    assert_eq!(tls.lacks(&config(&optional)), Some("the same demand for client certificates"));
    assert_eq!(config(&optional).lacks(&tls), None);
    let newest = config(&format!("{TLS}  min_version: TLS13\n"));
    assert_eq!(tls.lacks(&newest), Some("the same lowest version of TLS"));
    assert_eq!(newest.lacks(&tls), None);
    assert_eq!(config(&format!("{TLS}{USERS}")).lacks(&tls), None);
}

#[tokio::test]
async fn a_changed_file_is_used_and_a_broken_one_is_counted_once() {
    let folder = folder(USERS);
    let path = folder.path().join("web.yml");
    let initial = Arc::new(WebConfig::load(&path).expect("the configuration is valid"));
    let (sender, receiver) = tokio::sync::watch::channel(initial);
    let errors = prometheus::IntCounter::new("errors", "Errors.").expect("the name is valid");
    tokio::spawn(follow(path.clone(), sender, errors.clone()));
    let has = |user: &str| receiver.borrow().users.contains_key(user);
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        for _ in 0..600 {
            if holds() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("timed out waiting until {what}");
    };
    fs::write(&path, USERS.replace("alice", "bob")).expect("the folder is writable");
    until("the new user is known", &|| has("bob")).await;
    fs::write(&path, TLS).expect("the folder is writable");
    until("users that are gone are an error", &|| errors.get() == 1).await;
    assert!(has("bob"), "the last configuration stays in use");
    fs::write(&path, USERS).expect("the folder is writable");
    until("it recovers", &|| has("alice")).await;
    assert_eq!(errors.get(), 1);
}
