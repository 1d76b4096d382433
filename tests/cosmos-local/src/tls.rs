//! Https with a certificate of the server's own.
//!
//! Each start makes a certificate authority and a certificate that it signs. Clients that shall trust the server get
//! the authority's certificate; its key is dropped at once, so that nothing else can be signed with it.

use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The names that every certificate is for.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How to serve https.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Host names and addresses that the certificate is for, beside `localhost`, `127.0.0.1` and `::1`.
    pub names: Vec<String>,
}

/// What a listener needs to speak TLS, and what its clients need to trust it.
pub(crate) struct Identity {
    pub acceptor: TlsAcceptor,
    pub ca_pem: String,
}

impl Tls {
    /// Makes the authority and the certificate.
    ///
    /// # Errors
    /// Names the host name that cannot be one.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        let failed = |what: &str, e: &dyn std::fmt::Display| format!("the certificate {what}: {e}");
        let authority = {
            let mut params = params("cosmos-local authority", Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate().map_err(|e| failed("authority has no key", &e))?;
            CertifiedIssuer::self_signed(params, key).map_err(|e| failed("authority cannot be signed", &e))?
        };
        let mut names: Vec<String> = LOOPBACK.map(str::to_owned).to_vec();
        for name in &self.names {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let mut params = params("cosmos-local", names)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(|e| failed("has no key", &e))?;
        let certificate = params
            .signed_by(&key, &authority)
            .map_err(|e| failed("cannot be signed", &e))?;
        // The provider is named rather than taken from the process: a program that uses this library may have none,
        // or another one.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed("cannot be served", &e))?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .map_err(|e| failed("cannot be served", &e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Identity {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem: authority.pem(),
        })
    }
}

/// The parts that both certificates have in common.
fn params(common_name: &str, names: Vec<String>) -> Result<CertificateParams, String> {
    if let Some(bad) = names
        .iter()
        .find(|name| name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic() || c == '/'))
    {
        return Err(format!(
            "'{bad}' is not a host name or an address for the certificate"
        ));
    }
    let mut params = CertificateParams::new(names)
        .map_err(|e| format!("the certificate's names {LOOPBACK:?} and those given cannot be used: {e}"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Fixed days: clocks of containers and of their hosts differ, and the certificate lives no longer than the server.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused_by_name() {
        for bad in ["", "two words", "http://host/", "höst"] {
            let tls = Tls {
                names: vec![bad.to_owned()],
            };
            let error = tls.identity().err().unwrap();
            assert!(error.contains(&format!("'{bad}'")), "{error}");
        }
    }

    #[test]
    fn each_start_has_an_authority_of_its_own() {
        let pem = || Tls::default().identity().unwrap().ca_pem;
        let (one, two) = (pem(), pem());
        assert!(one.starts_with("-----BEGIN CERTIFICATE-----") && !one.contains("PRIVATE"));
        assert_ne!(one, two);
    }
}
