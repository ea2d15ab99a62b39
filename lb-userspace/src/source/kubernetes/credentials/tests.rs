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

#[test]
fn no_proxy_is_about_the_server_and_not_about_the_proxy() {
    let proxy = "http://10.0.0.9:3128";
    let variables = Matcher::builder().https(proxy).no("10.0.0.0/24,.example.org").build();
    for (server, expected) in [
        ("https://10.0.0.1:6443", false),
        ("https://10.0.1.1:6443", true),
        ("https://api.example.org", false),
        ("https://api.example.net", true),
        ("http://10.0.1.1:8080", false),
    ] {
        assert_eq!(goes_by_proxy(&server.parse().unwrap(), &variables), expected, "{server}");
    }
    assert!(!goes_by_proxy(&"https://10.0.1.1".parse().unwrap(), &Matcher::builder().build()));
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

/// A kubeconfig whose plugin is a shell script, and a folder that the script runs in.
struct Plugin(tempfile::TempDir);

impl Plugin {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = folder.path().join("get-token");
        let text = format!(
            "clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1'}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{exec: {{
  apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never,
  env: [{{name: FOLDER, value: '{}'}}]}}}}}}]
current-context: c
",
            command.display(),
            folder.path().display()
        );
        fs::write(folder.path().join("kubeconfig"), text).unwrap();
        let plugin = Self(folder);
        plugin.becomes(script);
        plugin
    }

    /// From now on the script is this.
    fn becomes(&self, script: &str) {
        fs::write(self.0.path().join("get-token"), format!("echo >> $FOLDER/runs; {script}"))
            .unwrap();
    }

    fn access(&self) -> Access {
        Access { kubeconfig: Some(self.0.path().join("kubeconfig")), server: None }
    }

    /// How often it was run.
    fn runs(&self) -> usize {
        self.read("runs").lines().count()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

/// Writes a token that expires after so many seconds.
fn token(seconds: i64) -> String {
    let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
    format!(
        r#"echo '{{"kind": "ExecCredential", "status": {{"token": "t", "expirationTimestamp": "{expires}"}}}}'"#
    )
}

/// Starts a process that goes on, notes its id, and waits for it.
const HANGS: &str = "sleep 1000 & echo $! > $FOLDER/hanging; wait";

#[tokio::test]
async fn a_plugin_is_run_once_until_its_token_is_about_to_expire() {
    let plugin = Plugin::new(&token(3600));
    let api = Arc::new(ApiClient::open(plugin.access()).await.unwrap());
    api.newest().await;
    assert_eq!((plugin.runs(), api.newest().await.number), (1, 0));
    let plugin = Plugin::new(&token(-1));
    let api = Arc::new(ApiClient::open(plugin.access()).await.unwrap());
    plugin.becomes(&token(3600));
    assert_eq!(api.newest().await.number, 1);
    assert_eq!((plugin.runs(), api.newest().await.number), (2, 1));
}

#[tokio::test]
async fn a_plugin_learns_what_client_go_says_to_one() {
    let plugin = Plugin::new(&format!("echo $KUBERNETES_EXEC_INFO > $FOLDER/info; {}", token(9)));
    ApiClient::open(plugin.access()).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&plugin.read("info")).unwrap();
    let expected = serde_json::json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "spec": {"interactive": false},
    });
    assert_eq!(info, expected);
}

#[tokio::test]
async fn a_plugin_that_hangs_at_renewal_is_killed_and_named_and_tried_again() {
    let plugin = Plugin::new(&token(-1));
    let limit = Duration::from_secs(3);
    let api = Arc::new(ApiClient::open_within(plugin.access(), limit).await.unwrap());
    plugin.becomes(HANGS);
    let old = api.current();
    let (first, second) = tokio::join!(api.renew(&old), api.renew(&old));
    for error in [first.unwrap_err(), second.unwrap_err()].map(|error| error.to_string()) {
        assert!(error.contains("plugin `sh`") && error.contains("within 3 s"), "{error}");
    }
    assert_eq!(plugin.runs(), 2, "at the start, and once for both");
    assert!(!plugin.read("hanging").trim().is_empty(), "it has started");
    let hanging = format!("/proc/{}/stat", plugin.read("hanging").trim());
    // Who started it is gone, and it may be that nobody has noticed its end yet.
    let ended = || fs::read_to_string(&hanging).map_or(true, |stat| stat.contains(") Z "));
    let waiting = async {
        while !ended() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("what it started is killed, too");
    plugin.becomes(&token(3600));
    let renewing = async {
        while api.newest().await.number == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), renewing).await.expect("it is run again");
    assert_eq!(plugin.runs(), 3);
}

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_used_while_its_plugin_hangs() {
    let plugin = Plugin::new(&token(30));
    let api = Arc::new(ApiClient::open(plugin.access()).await.unwrap());
    plugin.becomes(HANGS);
    assert_eq!(timeout(Duration::from_secs(5), api.newest()).await.unwrap().number, 0);
}

#[tokio::test]
async fn what_a_plugin_says_when_it_fails_is_passed_on() {
    for (script, said) in [
        ("echo first >&2; echo no network >&2; exit 3", "failed (exit status: 3: no network)"),
        ("echo nonsense", "wrote no ExecCredential ("),
        ("echo '{\"status\": {}}'", "neither a token nor a certificate"),
    ] {
        let error = ApiClient::open(Plugin::new(script).access()).await.unwrap_err().to_string();
        assert!(error.contains("plugin `sh`") && error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_a_plugin_is_presented() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let status = serde_json::json!({"status": {
        "clientCertificateData": certificate.pem(), "clientKeyData": key.serialize_pem(),
    }});
    let plugin = Plugin::new("cat $FOLDER/status");
    fs::write(plugin.0.path().join("status"), status.to_string()).unwrap();
    let (mut config, ..) = plugin.access().config().await.unwrap();
    let exec = plugin::of(&config.auth_info).unwrap().clone();
    let expires = plugin::run(&exec, &mut config.auth_info, READING).await.unwrap();
    assert_eq!((expires, config.auth_info.exec.is_none()), (None, true));
    Client::try_from(config).expect("certificate and key are read");
}
