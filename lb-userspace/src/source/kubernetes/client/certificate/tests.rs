//! A real TLS server presents each kind of wrong certificate to the client that the watches use.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::super::{Failure, page};
use super::*;
use crate::source::kubernetes::backoff::Timeouts;
use crate::source::kubernetes::credentials::{Access, ApiClient};

/// What a server presents, and the CA that its clients know.
struct Presented {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    known_ca: String,
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for these names that the known CA has signed.
fn signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Presented {
    let (ca, key) = (ca("kubernetes"), KeyPair::generate().unwrap());
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, &ca).unwrap();
    Presented { certificate: certificate.into(), key: key.into(), known_ca: ca.pem() }
}

/// Serves TLS until the test ends: every request is responded to with an empty list.
fn serve(presented: &Presented) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![presented.certificate.clone()], presented.key.clone_key())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut tls, &mut client);
            // A client that does not accept the certificate closes the connection.
            if stream.read(&mut [0; 4096]).is_ok() {
                let list = r#"{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"1"},"items":[]}"#;
                let length = list.len();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                let _: Result<_, _> = stream.write_all((head + list).as_bytes());
            }
        }
    });
    address
}

/// What becomes of a request to a server that presents this.
async fn request(presented: &Presented) -> Result<(), Failure> {
    let address = serve(presented);
    let folder = tempfile::tempdir().unwrap();
    let (ca, kubeconfig) = (folder.path().join("ca.crt"), folder.path().join("kubeconfig"));
    std::fs::write(&ca, &presented.known_ca).unwrap();
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority: '{}'}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{}}}}]
current-context: c
",
        ca.display()
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let access = Access { kubeconfig: Some(kubeconfig), server: None };
    let client = ApiClient::open(access).await.unwrap().current().client;
    let request = http::Request::get("/api/v1/services").body(Vec::new()).unwrap();
    let timeouts = Timeouts { response: Duration::from_secs(20), ..Timeouts::default() };
    page::<Service>(&client, request, timeouts).await.map(drop)
}

/// Checks that a request fails for `fault`, and what is said of it.
async fn check(presented: &Presented, fault: CertificateFault, said: &str, advice: &str) {
    let failure = request(presented).await.unwrap_err();
    assert_eq!(failure, Failure::Certificate(fault));
    assert!(failure.to_string().contains(said), "{failure}");
    let advised = failure.advice().unwrap();
    assert!(advised.contains(advice), "{advised}");
    assert!(!advised.contains("check that this address"), "{advised}");
    assert!(failure.concerns_all() && failure.may_be_credentials());
}

#[tokio::test]
async fn a_certificate_that_is_right_is_accepted() {
    assert_eq!(request(&signed(&["127.0.0.1"], |_| {})).await, Ok(()));
}

#[tokio::test]
async fn an_unknown_issuer_is_named_with_the_field_for_its_ca() {
    let known_ca = ca("another").pem();
    let presented = Presented { known_ca, ..signed(&["127.0.0.1"], |_| {}) };
    let (said, advice) = ("signed by an unknown CA", "`certificate-authority-data`");
    check(&presented, CertificateFault::UnknownIssuer, said, advice).await;
}

#[tokio::test]
async fn a_ca_of_the_same_name_is_another_issuer() {
    let known_ca = ca("kubernetes").pem();
    let presented = Presented { known_ca, ..signed(&["127.0.0.1"], |_| {}) };
    let said = "a CA with the name of a known one and another key";
    check(&presented, CertificateFault::OtherIssuer, said, "from the cluster").await;
}

#[tokio::test]
async fn a_ca_as_a_server_s_certificate_is_named_whether_it_is_known_or_not() {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let known_ca = certificate.pem();
    let presented = Presented { certificate: certificate.into(), key: key.into(), known_ca };
    let (said, advice) = ("that of a CA", "a certificate that this CA has signed");
    check(&presented, CertificateFault::IsCa, said, advice).await;
    let presented = Presented { known_ca: ca("another").pem(), ..presented };
    check(&presented, CertificateFault::IsCa, said, advice).await;
}

#[tokio::test]
async fn a_certificate_for_other_names_is_named_with_those_it_has() {
    let presented = signed(&["kubernetes", "10.96.0.1", "fd96::1"], |_| {});
    let names = ["kubernetes", "10.96.0.1", "fd96::1"].map(String::from).to_vec();
    let fault = CertificateFault::OtherName { called: "127.0.0.1".into(), names };
    let said = "is for kubernetes, 10.96.0.1, fd96::1, not for 127.0.0.1";
    check(&presented, fault, said, "--master").await;
    let fault = CertificateFault::OtherName { called: "127.0.0.1".into(), names: Vec::new() };
    check(&signed(&[], |_| {}), fault, "for no name at all", "subjectAltName").await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_named_with_that_time() {
    let presented = signed(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let fault = CertificateFault::Expired(Some("2020-01-01T00:00:00Z".parse().unwrap()));
    let said = "has expired 2020-01-01 00:00:00 UTC";
    check(&presented, fault, said, "kubeadm certs renew").await;
    let presented = signed(&["127.0.0.1"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let fault = CertificateFault::NotYetValid(Some("3000-01-01T00:00:00Z".parse().unwrap()));
    check(&presented, fault, "not valid before 3000-01-01", "this node's clock").await;
}

#[tokio::test]
async fn a_certificate_for_clients_is_named() {
    let presented = signed(&["127.0.0.1"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    check(&presented, CertificateFault::OtherPurpose, "not one for servers", "serverAuth").await;
}

#[tokio::test]
async fn what_has_no_words_of_its_own_is_in_those_of_the_verifier() {
    let fault = CertificateFault::of(&CertificateError::Revoked);
    assert!(fault.to_string().contains("cannot be accepted ("), "{fault}");
    assert!(fault.advice().contains("openssl s_client"));
}
