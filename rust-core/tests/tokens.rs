//! Entra ID tokens from a token server to the account, over a real wire. Alone in its process, since the place of the token server is
//! an environment variable (that of App Service's managed identity).

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cosmos_local::AccountKey;
use cosmosflink_core::account::open_blocking;
use cosmosflink_core::config::{Config, Role};
use cosmosflink_core::discovery::Enumerator;
use cosmosflink_core::error::Kind;
use cosmosflink_core::sink::Sink;
use cosmosflink_core::source::Source;
use support::*;

/// What the token server does about one identity.
#[derive(Clone)]
enum Answer {
    /// A token of this life.
    Token(Duration),
    /// The same, after a while.
    Slow(Duration, Duration),
    Fail(u16),
    Hang,
}

struct Identity {
    name: String,
    account: AccountKey,
    /// The answers to come; the last one stays.
    answers: VecDeque<Answer>,
    asked: Vec<Instant>,
    under_way: usize,
    most_at_once: usize,
    resources: Vec<String>,
}

/// A token server in the form of App Service's.
struct TokenServer {
    identities: Mutex<Vec<Identity>>,
}

impl TokenServer {
    /// The one of this process.
    fn get() -> &'static TokenServer {
        static SERVER: OnceLock<TokenServer> = OnceLock::new();
        SERVER.get_or_init(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
            std::env::set_var("IDENTITY_ENDPOINT", url);
            std::env::set_var("IDENTITY_HEADER", "header");
            // Nobody here may go through the proxy of the environment, but who names it.
            for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
                std::env::set_var(variable, EnvironmentProxy::get().url());
            }
            for variable in ["NO_PROXY", "no_proxy"] {
                std::env::remove_var(variable);
            }
            // For what this test calls the developer's tool.
            let path = std::env::var("PATH").unwrap();
            std::env::set_var("PATH", format!("{}:{path}", tools().display()));
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    thread::spawn(move || TokenServer::get().serve(stream));
                }
            });
            TokenServer {
                identities: Mutex::default(),
            }
        })
    }

    fn identities(&self) -> MutexGuard<'_, Vec<Identity>> {
        self.identities.lock().unwrap()
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&mut Identity) -> T) -> T {
        act(self.identities().iter_mut().find(|i| i.name == name).unwrap())
    }

    /// An identity of the account; its name is for `auth.client-id`.
    fn add(&self, name: &str, local: &Local, answers: &[Answer]) {
        self.identities().push(Identity {
            name: name.to_owned(),
            account: local.account.clone(),
            answers: answers.iter().cloned().collect(),
            asked: Vec::new(),
            under_way: 0,
            most_at_once: 0,
            resources: Vec::new(),
        });
    }

    fn serve(&self, stream: std::net::TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
            let mut header = String::from("-");
            while !header.trim().is_empty() {
                header.clear();
                reader.read_line(&mut header).ok()?;
            }
            let url: url::Url = format!("http://x{}", line.split(' ').nth(1)?).parse().ok()?;
            let value = |key: &str| {
                url.query_pairs()
                    .find(|(k, _)| k == key)
                    .map(|(_, v)| v.into_owned())
            };
            let (name, resource) = (value("client_id")?, value("resource")?);
            let (answer, account) = self.with(&name, |i| {
                i.asked.push(Instant::now());
                i.resources.push(resource.clone());
                i.under_way += 1;
                i.most_at_once = i.most_at_once.max(i.under_way);
                let next = match i.answers.len() {
                    1 => i.answers[0].clone(),
                    _ => i.answers.pop_front().unwrap(),
                };
                (next, i.account.clone())
            });
            let token = |life: Duration| {
                let expires = SystemTime::now() + life;
                let seconds = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
                let token = account.token(UNIX_EPOCH + Duration::from_secs(seconds));
                let body = format!(
                    r#"{{"access_token":"{token}","expires_on":"{seconds}","token_type":"Bearer","resource":"{resource}"}}"#
                );
                (200, body)
            };
            let (status, body) = match answer {
                Answer::Token(life) => token(life),
                Answer::Slow(wait, life) => {
                    // The server's own slowness, not a wait for something.
                    thread::sleep(wait);
                    token(life)
                }
                Answer::Fail(status) => (status, "{}".to_owned()),
                Answer::Hang => {
                    // Until the client has gone.
                    while reader.read_line(&mut line).ok()? > 0 {}
                    return None;
                }
            };
            self.with(&name, |i| i.under_way -= 1);
            let length = body.len();
            write!(
                &stream,
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .ok()?;
        }
    }
}

/// The proxy that the environment of this process names. It refuses what it is asked for, and remembers it.
struct EnvironmentProxy {
    port: u16,
    asked: Mutex<Vec<String>>,
}

impl EnvironmentProxy {
    fn get() -> &'static EnvironmentProxy {
        static PROXY: OnceLock<EnvironmentProxy> = OnceLock::new();
        PROXY.get_or_init(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    let mut line = String::new();
                    if BufReader::new(&stream).read_line(&mut line).is_ok() {
                        EnvironmentProxy::get().asked.lock().unwrap().push(line);
                    }
                    let _ = stream.write_all(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n");
                }
            });
            EnvironmentProxy {
                port,
                asked: Mutex::default(),
            }
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn was_asked_for(&self, host: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|line| line.contains(host))
    }
}

/// The folder of this process's own `az`.
fn tools() -> PathBuf {
    std::env::temp_dir().join(format!("cosmosflink-tools-{}", std::process::id()))
}

fn config(local: &Local, identity: &str, extra: &[(&str, &str)]) -> Config {
    let mut options: Vec<_> = local
        .options("c", extra)
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    options.push(("auth.type".into(), "managed-identity".into()));
    options.push(("auth.client-id".into(), identity.into()));
    Config::parse(Role::Sink, &options).unwrap()
}

const LIFE: Duration = Duration::from_secs(8);

/// A round that took less did not wait for a token, however busy the machine is.
const NO_WAIT: Duration = Duration::from_millis(1800);

/// Writes rounds of 40 documents until `until`; returns the longest round.
fn write_until(sink: &Writer, prefix: &str, until: Instant) -> Duration {
    let (mut round, mut longest) = (0, Duration::ZERO);
    while Instant::now() < until {
        let started = Instant::now();
        upserts(sink, &format!("{prefix}-{round}"), 40, 10);
        for outcome in outcomes(sink, 40) {
            assert!(outcome.error.is_none(), "{outcome:?}");
        }
        longest = longest.max(started.elapsed());
        round += 1;
    }
    assert!(round > 3);
    longest
}

#[test]
fn tokens_are_asked_for_once_and_renewed_in_the_background() {
    let (server, local) = (TokenServer::get(), Local::start(&["c:/pk:2"]));
    let slow = Answer::Slow(Duration::from_secs(2), LIFE);
    server.add("renewed", &local, &[Answer::Token(LIFE), slow]);
    let audience = [("auth.audience", "https://cosmos.sovereign.example/")];
    let sink = Writer::new(Sink::open(config(&local, "renewed", &audience)).unwrap());
    // Three lives of a token, each renewed slowly.
    let longest = write_until(&sink, "renewed", Instant::now() + LIFE * 2);
    assert!(longest < NO_WAIT, "a request waited {longest:?} for a renewal");
    server.with("renewed", |i| {
        assert!((3..=12).contains(&i.asked.len()), "asked {} times", i.asked.len());
        assert_eq!(i.most_at_once, 1);
        assert!(
            i.resources
                .iter()
                .all(|r| r == "https://cosmos.sovereign.example"),
            "{:?}",
            i.resources
        );
    });
    assert_eq!(
        sink.metrics().failed.load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[test]
fn a_token_is_used_until_it_expires_when_renewing_fails_and_everything_goes_on_afterwards() {
    let (server, local) = (TokenServer::get(), Local::start(&["c:/pk:2"]));
    server.add("failing", &local, &[Answer::Token(LIFE), Answer::Fail(403)]);
    let sink = Writer::new(Sink::open(config(&local, "failing", &[])).unwrap());
    let started = Instant::now();
    let longest = write_until(&sink, "failing", started + LIFE - Duration::from_secs(3));
    assert!(longest < NO_WAIT, "{longest:?}");
    let asked = server.with("failing", |i| i.asked.len());
    assert!((2..=12).contains(&asked), "asked {asked} times");
    // Beyond the expiry nothing is lost: what is written waits for a token.
    let mut waiting = 0;
    while started.elapsed() < LIFE + Duration::from_secs(2) {
        upserts(&sink, &format!("late-{waiting}"), 1, 1);
        waiting += 1;
        for outcome in sink.come_back(Duration::from_millis(100)) {
            assert!(outcome.error.is_none(), "{outcome:?}");
            waiting -= 1;
        }
    }
    assert!(waiting > 3, "something was written without a token");
    server.with("failing", |i| i.answers = [Answer::Token(LIFE * 100)].into());
    while waiting > 0 {
        let outcomes = sink.come_back(WAIT);
        assert!(!outcomes.is_empty(), "{waiting} are still waiting");
        waiting -= outcomes.len();
        assert!(outcomes.iter().all(|o| o.error.is_none()), "{outcomes:?}");
    }
    let asked = server.with("failing", |i| i.asked.len());
    assert!(asked <= 30, "asked {asked} times");
}

#[test]
fn a_token_server_that_never_answers_ends_the_opening_in_time() {
    let (server, local) = (TokenServer::get(), Local::start(&["c:/pk:1"]));
    server.add("hanging", &local, &[Answer::Hang]);
    let config = config(&local, "hanging", &[("request-timeout", "1500")]);
    let started = Instant::now();
    let error = open_blocking(Sink::connect(config)).map(drop).unwrap_err();
    assert_eq!(error.kind, Kind::Transient, "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn the_developers_tool_is_not_started_for_each_request() {
    let (_, local) = (TokenServer::get(), Local::start(&["c:/pk:2"]));
    let folder = tools();
    std::fs::create_dir_all(&folder).unwrap();
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let seconds = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}/calls\necho '{{\"accessToken\": \"{}\", \"expires_on\": {seconds}, \"tokenType\": \"Bearer\"}}'\n",
        folder.display(),
        local.account.token(expires)
    );
    std::fs::write(folder.join("az"), script).unwrap();
    std::fs::set_permissions(folder.join("az"), PermissionsExt::from_mode(0o755)).unwrap();
    let options: Vec<_> = local
        .options("c", &[("auth.type", "developer-tools")])
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    let sink = Writer::new(Sink::open(Config::parse(Role::Sink, &options).unwrap()).unwrap());
    for round in 0..5 {
        upserts(&sink, &format!("az-{round}"), 40, 10);
        for outcome in outcomes(&sink, 40) {
            assert!(outcome.error.is_none(), "{outcome:?}");
        }
    }
    let calls = std::fs::read_to_string(folder.join("calls")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.contains("https://cosmos.azure.com"), "{calls}");
}

/// The option means the same with a file of authorities and without one, and the environment decides only where the option says so.
#[test]
fn tokens_take_the_way_that_the_proxy_option_says() {
    let (_, proxy) = (TokenServer::get(), EnvironmentProxy::get());
    let local = Local::start_with(&["c:/pk:1"], |c| c.tls = Some(cosmos_local::Tls::default()));
    let file = |name: &str, text: &str| {
        let path = std::env::temp_dir().join(format!("cosmosflink-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = file("tokens.pem", local.ca_pem.as_deref().unwrap());
    let assertion = file("assertion", "assertion");
    for (auth, secret) in [
        ("client-secret", ("auth.client-secret", "VerySecret")),
        ("workload-identity", ("auth.token-file", assertion.as_str())),
    ] {
        for (ca, option) in [
            (None, None),
            (None, Some("none")),
            (Some(&ca), None),
            (Some(&ca), Some("none")),
            (None, Some("environment")),
            (Some(&ca), Some("environment")),
        ] {
            // A port of its own for each case, where nobody listens.
            let authority = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let host = format!("https://{authority}");
            let mut extra = vec![
                ("auth.type", auth),
                ("auth.tenant-id", "tenant"),
                ("auth.client-id", "client"),
                secret,
                ("auth.authority-host", host.as_str()),
                ("request-timeout", "1500"),
            ];
            extra.extend(ca.map(|ca| ("tls.ca-file", ca.as_str())));
            extra.extend(option.map(|option| ("proxy", option)));
            let options: Vec<_> = local
                .options("c", &extra)
                .into_iter()
                .filter(|(name, _)| name != "auth.secret-key")
                .collect();
            let error = Sink::open(Config::parse(Role::Sink, &options).unwrap())
                .map(drop)
                .unwrap_err();
            assert_eq!(
                proxy.was_asked_for(&format!("CONNECT {authority} ")),
                option == Some("environment"),
                "{auth}, proxy {option:?}, authorities {ca:?}: {error}"
            );
        }
    }
    for path in [ca, assertion] {
        std::fs::remove_file(path).unwrap();
    }
    let identity = std::env::var("IDENTITY_ENDPOINT").unwrap();
    assert!(
        !proxy.was_asked_for(&identity),
        "a managed identity is of this machine"
    );
}

/// By the local clock it is good for long: only the service's answer says that it is not.
#[test]
fn a_token_that_the_service_refuses_is_given_up() {
    let (server, local) = (TokenServer::get(), Local::start(&["c:/pk:2"]));
    server.add("refused", &local, &[Answer::Token(Duration::from_secs(3600))]);
    let open = || Sink::open(config(&local, "refused", &[])).map(Writer::new);
    let held = open().unwrap();
    local.account.regenerate();
    // A new token is not given up at once.
    let started = Instant::now();
    while let Err(e) = open() {
        assert_eq!(e.kind, Kind::Auth, "{e}");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the token is never given up: {e}"
        );
    }
    upserts(&held, "refused", 20, 5);
    for outcome in outcomes(&held, 20) {
        assert!(outcome.error.is_none(), "{outcome:?}");
    }
    assert_eq!(server.with("refused", |i| i.asked.len()), 2);
}

/// Nobody opens anything meanwhile: writers and readers see to it by themselves.
#[test]
fn readers_and_writers_go_on_after_their_token_was_refused() {
    let (server, local) = (TokenServer::get(), Local::start(&["c:/pk:2"]));
    server.add("revoked", &local, &[Answer::Token(Duration::from_secs(3600))]);
    let sink = Writer::new(Sink::open(config(&local, "revoked", &[])).unwrap());
    let entra = [("auth.type", "managed-identity"), ("auth.client-id", "revoked")];
    let options: Vec<_> = local
        .options("c", &entra)
        .into_iter()
        .filter(|(name, _)| name != "auth.secret-key")
        .collect();
    let source = || Config::parse(Role::Source, &options).unwrap();
    let enumerator = Enumerator::open(source()).unwrap();
    let splits = enumerator.discover(&[]).unwrap();
    let source = Source::open(source()).unwrap();
    source
        .add_splits(splits.into_iter().map(|e| e.split).collect())
        .unwrap();
    for round in 0..2 {
        // Older than a token that has only just come.
        let longest = write_until(
            &sink,
            &format!("revoked-{round}"),
            Instant::now() + Duration::from_secs(3),
        );
        assert!(longest < Duration::from_secs(10), "{longest:?}");
        local.account.regenerate();
    }
    upserts(&sink, "revoked-last", 20, 5);
    for outcome in outcomes(&sink, 20) {
        assert!(outcome.error.is_none(), "{outcome:?}");
    }
    let mut last = 0;
    while last < 20 {
        last += read(&source, 1)
            .keys()
            .filter(|id| id.starts_with("revoked-last-"))
            .count();
    }
    assert_eq!(server.with("revoked", |i| i.asked.len()), 3);
}
