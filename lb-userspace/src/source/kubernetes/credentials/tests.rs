use super::*;

#[test]
fn an_address_needs_a_scheme_and_a_host() {
    assert!(parse_server("https://10.0.0.1:6443").is_ok());
    assert!(parse_server("http://[fd00::1]:8080").is_ok());
    for wrong in ["10.0.0.1:6443", "10.0.0.1", "ftp://a", "", "https://"] {
        let error = parse_server(wrong).unwrap_err().to_string();
        assert!(error.contains("--master https://HOST:PORT"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn a_kubeconfig_that_is_not_there_is_refused_by_its_name() {
    let access = Access { kubeconfig: Some("/none/config".into()), server: None };
    let error = ApiClient::open(access).await.unwrap_err().to_string();
    assert!(error.contains("/none/config") && error.contains("--kubeconfig"), "{error}");
}

/// As a proxy is named by `HTTPS_PROXY`, too.
#[tokio::test]
async fn a_proxy_that_the_kubeconfig_names_is_asked_for_the_way() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1:6443', proxy-url: 'http://{}'}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{}}}}]
current-context: c
",
        proxy.local_addr().unwrap()
    );
    fs::write(file.path(), text).unwrap();
    let access = Access { kubeconfig: Some(file.path().into()), server: None };
    let client = ApiClient::open(access).await.unwrap().current().client;
    let request = http::Request::get("/version").body(Vec::new()).unwrap();
    let proxy = tokio::task::spawn_blocking(move || {
        let mut line = [0; 27];
        std::io::Read::read_exact(&mut proxy.accept().unwrap().0, &mut line).unwrap();
        line
    });
    let asked = timeout(Duration::from_secs(20), client.request_text(request)).await;
    assert!(asked.unwrap().is_err(), "the proxy closes the connection");
    assert_eq!(&proxy.await.unwrap(), b"CONNECT 192.0.2.1:6443 HTTP");
}

#[tokio::test]
async fn the_given_address_takes_precedence_over_the_kubeconfig_s() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
";
    fs::write(file.path(), text).unwrap();
    let mut access = Access { kubeconfig: Some(file.path().into()), server: None };
    assert_eq!(ApiClient::open(access.clone()).await.unwrap().server, "http://127.0.0.1:1");
    access.server = Some("http://192.0.2.1:6443".into());
    assert_eq!(ApiClient::open(access).await.unwrap().server, "http://192.0.2.1:6443");
}
