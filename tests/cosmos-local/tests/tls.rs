//! Https as a client of the real service sees it: the certificate, ALPN, and the vendor's driver over it.

use azure_core::credentials::Secret;
use azure_core::http::Url;
use azure_data_cosmos_driver::models::{AccountReference, CosmosOperation, ItemReference, PartitionKey};
use azure_data_cosmos_driver::options::{BinaryEncodingOptions, DriverOptions, OperationOptionsBuilder};
use azure_data_cosmos_driver::CosmosDriverRuntime;
use cosmos_local::{AccountKey, Config, Server, Tls};
use rustls::pki_types::{pem::PemObject, CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{client::TlsStream, TlsConnector};

async fn start(key: AccountKey, names: &[&str], regions: &[&str]) -> Server {
    let mut config = Config::new(key);
    config.databases = vec!["db".to_owned()];
    config.containers = vec!["c:/pk:2".parse().unwrap()];
    config.regions = regions.iter().map(|name| (*name).to_owned()).collect();
    config.tls = Some(Tls {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    });
    Server::start(config).await.unwrap()
}

/// A TLS connection by a client that trusts `ca` alone.
async fn handshake(
    server: &Server,
    ca: &str,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn the_certificate_is_for_its_names_and_both_protocols_are_offered() {
    let server = start(AccountKey::random(), &["cosmos-local", "10.1.2.3"], &[]).await;
    assert!(
        server.endpoint().starts_with("https://127.0.0.1:"),
        "{}",
        server.endpoint()
    );
    let ca = server.ca_pem().unwrap();
    for name in ["localhost", "127.0.0.1", "::1", "cosmos-local", "10.1.2.3"] {
        let stream = handshake(&server, ca, name, &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{name}");
    }
    for name in ["example.com", "10.1.2.4"] {
        assert!(handshake(&server, ca, name, &["h2"]).await.is_err(), "{name}");
    }
    let other = start(AccountKey::random(), &[], &[]).await;
    let refused = handshake(&server, other.ca_pem().unwrap(), "localhost", &["h2"]).await;
    assert!(refused.is_err(), "the authority of another server was enough");

    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = handshake(&server, ca, "localhost", protocols).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed, protocols.first().map(|name| name.as_bytes().to_vec()));
        let request = "GET /_local/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"status":"ok"}"#),
            "{answer}"
        );
    }
    // Somebody who speaks plain http gets no answer, and does not hold the server up.
    let mut plain = TcpStream::connect(server.address()).await.unwrap();
    plain
        .write_all(b"GET /_local/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP/"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_trusts_the_server_by_its_authority_alone() {
    std::env::set_var("COSMOS_DISABLE_IMDS", "1");
    let key = AccountKey::random();
    let server = start(key.clone(), &[], &["West", "East"]).await;
    let endpoints = server.regions();
    assert!(
        endpoints
            .iter()
            .all(|(_, endpoint)| endpoint.starts_with("https://127.0.0.1:")),
        "{endpoints:?}"
    );
    let options = || {
        OperationOptionsBuilder::new()
            .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
            .build()
    };
    let connect = || async {
        let endpoint = Url::parse(&server.endpoint().replace("127.0.0.1", "localhost")).unwrap();
        let account = AccountReference::with_account_key(endpoint, Secret::new(key.secret().to_owned()));
        let runtime = CosmosDriverRuntime::builder().build().await?;
        runtime
            .create_driver(DriverOptions::builder(account).build())
            .await
    };
    assert!(
        connect().await.is_err(),
        "the driver trusts an authority that it does not know"
    );

    let file = std::env::temp_dir().join(format!("cosmos-local-ca-{}.pem", std::process::id()));
    std::fs::write(&file, server.ca_pem().unwrap()).unwrap();
    // The driver reads it whenever it opens a client, not only at its start.
    std::env::set_var("SSL_CERT_FILE", &file);
    let driver = connect().await.unwrap();
    // All of this goes to the endpoints that the account read named.
    let container = driver.resolve_container("db", "c", options()).await.unwrap();
    let item = |id: &str| ItemReference::from_name(&container, PartitionKey::from("k"), id.to_owned());
    for n in 0..20 {
        let id = format!("d{n}");
        let body = format!(r#"{{"id":"{id}","pk":"k","text":"{}"}}"#, "x".repeat(20_000));
        let operation = CosmosOperation::upsert_item(item(&id)).with_body(body.into_bytes());
        driver
            .execute_singleton_operation(operation, options())
            .await
            .unwrap();
        let read = CosmosOperation::read_item(item(&id));
        let read = driver.execute_singleton_operation(read, options()).await.unwrap();
        assert!(read.into_body().single().unwrap().len() > 20_000);
    }
    server.stop().await;
    std::fs::remove_file(&file).unwrap();
}
