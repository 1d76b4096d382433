//! The account key and the check of a request's signature.

use base64::{
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    Engine as _,
};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// Length of a generated key before encoding, the same as the service's.
const KEY_BYTES: usize = 64;

/// The master key of the account. It has no `Debug` or `Display`, so that it cannot reach a log by accident.
#[derive(Clone)]
pub struct AccountKey {
    encoded: String,
    mac: Hmac<Sha256>,
    /// The key that signs now, once this one was regenerated; shared by all clones.
    regenerated: Arc<RwLock<Option<Hmac<Sha256>>>>,
}

impl AccountKey {
    /// Takes a base64 key as the service hands them out.
    ///
    /// # Errors
    /// Says what is wrong with the text (empty or not base64), never the text itself.
    pub fn parse(encoded: &str) -> Result<Self, String> {
        let encoded = encoded.trim();
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|e| format!("the account key is not base64: {e}"))?;
        if bytes.is_empty() {
            return Err("the account key is empty".to_owned());
        }
        let mac = Hmac::new_from_slice(&bytes).map_err(|e| format!("the account key cannot be used: {e}"))?;
        Ok(Self {
            encoded: encoded.to_owned(),
            mac,
            regenerated: Arc::default(),
        })
    }

    /// A new random key of 64 bytes.
    pub fn random() -> Self {
        let bytes: [u8; KEY_BYTES] = rand::random();
        let mac = Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length");
        Self {
            encoded: STANDARD.encode(bytes),
            mac,
            regenerated: Arc::default(),
        }
    }

    /// The key in base64, for the client that has to sign with it.
    pub fn secret(&self) -> &str {
        &self.encoded
    }

    /// Regenerates the key, as the owner of an account does now and then: what is signed with the old one gets 401 from now on, on
    /// every server that holds a clone. Returns the new key in base64.
    pub fn regenerate(&self) -> String {
        let fresh = Self::random();
        *self.regenerated.write().unwrap_or_else(|e| e.into_inner()) = Some(fresh.mac);
        fresh.encoded
    }

    fn signer(&self) -> Hmac<Sha256> {
        let regenerated = self.regenerated.read().unwrap_or_else(|e| e.into_inner());
        regenerated.as_ref().unwrap_or(&self.mac).clone()
    }

    /// A token in the form of Entra ID's (a JWT), issued by whoever holds the key: the account takes it until `expires`.
    pub fn token(&self, expires: SystemTime) -> String {
        let seconds = expires.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let signed = format!(
            "{}.{}",
            part(r#"{"alg":"HS256","typ":"JWT"}"#),
            part(&format!(r#"{{"exp":{seconds}}}"#))
        );
        let mut mac = self.signer();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn verify_token(&self, token: &str) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Claims {
            exp: u64,
        }
        let wrong = || "The Entra ID token was not issued for this account.".to_owned();
        let (signed, signature) = token.rsplit_once('.').ok_or_else(wrong)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong())?;
        let mut mac = self.signer();
        mac.update(signed.as_bytes());
        mac.verify_slice(&signature).map_err(|_| wrong())?;
        let claims = signed.split_once('.').map_or("", |(_, claims)| claims);
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| wrong())?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| wrong())?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        if claims.exp <= now {
            return Err(format!("The Entra ID token expired {} s ago.", now - claims.exp));
        }
        Ok(())
    }

    /// Checks the `authorization` header of a request.
    ///
    /// `path` is the request's path as it was sent; `date` the value of `x-ms-date` (or `date`).
    ///
    /// # Errors
    /// The reason for a 401, in words that name what is missing or wrong.
    pub(crate) fn verify(
        &self,
        method: &str,
        path: &str,
        date: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<(), String> {
        let header = authorization.ok_or(
            "Required Header authorization is missing. Ensure a valid Authorization token is passed.",
        )?;
        let token = percent_decode_str(header)
            .decode_utf8()
            .map_err(|_| "The authorization header is not UTF-8 once it is percent-decoded.")?;
        let (mut kind, mut signature) = ("", "");
        for part in token.splitn(3, '&') {
            match part.split_once('=') {
                Some(("type", value)) => kind = value,
                Some(("sig", value)) => signature = value,
                _ => {}
            }
        }
        match kind {
            "master" => {}
            "aad" => return self.verify_token(signature),
            other => {
                return Err(format!(
                    "The authorization token type '{other}' is not known; expected type=master."
                ))
            }
        }
        let date = date.ok_or("The x-ms-date header (or date) is missing from a signed request.")?;
        let signature = STANDARD
            .decode(signature)
            .map_err(|_| "The signature in the authorization header is not base64.".to_owned())?;

        let (resource_type, link) = resource(path);
        let decoded = percent_decode_str(link).decode_utf8_lossy();
        // Names are signed as they are, percent-encoded names decoded, and resource ids in lower case, some clients
        // the last one alone: which of them a client means cannot be told from the path, so each is tried.
        let mut links = vec![decoded.as_ref(), link];
        let lower = decoded.to_lowercase();
        links.push(&lower);
        links.dedup();
        // A path of names never has that short form: one signature would be good for each resource of that name.
        links.extend(last_rid(&lower, &decoded));
        let method = method.to_ascii_lowercase();
        let date = date.to_lowercase();
        for link in links {
            let mut mac = self.signer();
            mac.update(format!("{method}\n{resource_type}\n{link}\n{date}\n\n").as_bytes());
            if mac.verify_slice(&signature).is_ok() {
                return Ok(());
            }
        }
        Err(format!(
            "The input authorization token can't serve the request. The wrong key is being used or the expected \
             payload is not built as per the protocol. Server used the following payload to sign: \
             '{method}\\n{resource_type}\\n{decoded}\\n{date}\\n\\n'"
        ))
    }
}

/// Splits a path into what the signature calls resource type and resource link: a feed (`/dbs/a/colls`) is signed
/// over its parent, a resource (`/dbs/a`) over itself, an offer over its bare id.
fn resource(path: &str) -> (&str, &str) {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return ("", "");
    }
    let segments = path.split('/').count();
    let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
    if segments % 2 == 1 {
        (last, parent)
    } else if let Some(id) = path.strip_prefix("offers/") {
        ("offers", id)
    } else {
        (parent.rsplit_once('/').map_or(parent, |(_, kind)| kind), path)
    }
}

/// The last resource id of a link whose ids are all resource ids, as it stands in `lower`, the link in lower case.
///
/// A resource id is the bytes of its parent's and some of its own, in base64 with `-` for `/`: a database has four
/// bytes, a container eight, what lies in it sixteen.
fn last_rid<'a>(lower: &'a str, link: &str) -> Option<&'a str> {
    let mut parent: Vec<u8> = Vec::new();
    let ids = link.trim_matches('/').split('/').skip(1).step_by(2);
    for (id, length) in ids.zip([4, 8, 16]) {
        let bytes = STANDARD.decode(id.replace('-', "/")).ok()?;
        if bytes.len() != length || !bytes.starts_with(&parent) {
            return None;
        }
        parent = bytes;
    }
    let (_, last) = lower.trim_matches('/').rsplit_once('/')?;
    (!parent.is_empty()).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(key: &AccountKey, payload: &str) -> String {
        let mut mac = key.mac.clone();
        mac.update(payload.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let token = format!("type=master&ver=1.0&sig={signature}");
        percent_encoding::utf8_percent_encode(&token, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn feeds_resources_and_offers_have_their_links() {
        assert_eq!(resource("/"), ("", ""));
        assert_eq!(resource("/dbs"), ("dbs", ""));
        assert_eq!(resource("/dbs/a/"), ("dbs", "dbs/a"));
        assert_eq!(resource("/dbs/a/colls/b/docs"), ("docs", "dbs/a/colls/b"));
        assert_eq!(
            resource("/dbs/a/colls/b/docs/c"),
            ("docs", "dbs/a/colls/b/docs/c")
        );
        assert_eq!(resource("/offers/x1"), ("offers", "x1"));
    }

    #[test]
    fn a_signature_is_valid_for_its_key_verb_link_and_date_only() {
        let key = AccountKey::random();
        let date = "Tue, 24 Nov 2026 10:00:00 GMT";
        let header = sign(
            &key,
            &format!("post\ndocs\ndbs/a b/colls/c\n{}\n\n", date.to_lowercase()),
        );
        let path = "/dbs/a%20b/colls/c/docs";
        assert_eq!(key.verify("POST", path, Some(date), Some(&header)), Ok(()));
        assert!(key.verify("GET", path, Some(date), Some(&header)).is_err());
        assert!(key
            .verify("POST", "/dbs/a/colls/c/docs", Some(date), Some(&header))
            .is_err());
        assert!(key
            .verify("POST", path, Some("Tue, 24 Nov 2026 10:00:01 GMT"), Some(&header))
            .is_err());
        assert!(key
            .verify("POST", path, None, Some(&header))
            .unwrap_err()
            .contains("x-ms-date"));
        assert!(key
            .verify("POST", path, Some(date), None)
            .unwrap_err()
            .contains("missing"));
        assert!(AccountKey::random()
            .verify("POST", path, Some(date), Some(&header))
            .is_err());
        let entra = "type%3Daad%26ver%3D1.0%26sig%3Dabc";
        assert!(key
            .verify("POST", path, Some(date), Some(entra))
            .unwrap_err()
            .contains("Entra"));
    }

    #[test]
    fn tokens_of_the_key_are_taken_until_they_expire() {
        let key = AccountKey::random();
        let verify = |key: &AccountKey, token: String| {
            let header = format!("type%3Daad%26ver%3D1.0%26sig%3D{token}");
            key.verify("GET", "/dbs/a", None, Some(&header))
        };
        let minute = std::time::Duration::from_secs(60);
        verify(&key, key.token(SystemTime::now() + minute)).unwrap();
        let error = verify(&key, key.token(SystemTime::now() - minute)).unwrap_err();
        assert!(error.contains("expired"), "{error}");
        let foreign = AccountKey::random().token(SystemTime::now() + minute);
        assert!(verify(&key, foreign).unwrap_err().contains("not issued"));
    }

    #[test]
    fn a_regenerated_key_replaces_the_old_one_for_all_clones() {
        let (key, path, date) = (AccountKey::random(), "/dbs/a", "thu, 01 jan 2026 00:00:00 gmt");
        let server = key.clone();
        let signed = |key: &AccountKey| sign(key, &format!("get\ndbs\ndbs/a\n{date}\n\n"));
        server
            .verify("GET", path, Some(date), Some(&signed(&key)))
            .unwrap();
        let fresh = AccountKey::parse(&key.regenerate()).ok().unwrap();
        assert!(server
            .verify("GET", path, Some(date), Some(&signed(&key)))
            .is_err());
        server
            .verify("GET", path, Some(date), Some(&signed(&fresh)))
            .unwrap();
    }

    #[test]
    fn resource_ids_are_signed_as_the_last_one_alone_or_as_the_whole_link() {
        let key = AccountKey::random();
        let date = "Tue, 24 Nov 2026 10:00:00 GMT";
        let verify = |method: &str, path: &str, payload: &str| {
            let header = sign(&key, &format!("{payload}\n{}\n\n", date.to_lowercase()));
            key.verify(method, path, Some(date), Some(&header)).is_ok()
        };
        let ranges = "/dbs/AAAAAQ==/colls/AAAAAYAAAAE=/pkranges";
        assert!(verify("GET", ranges, "get\npkranges\naaaaayaaaae="));
        assert!(verify(
            "GET",
            ranges,
            "get\npkranges\ndbs/AAAAAQ==/colls/AAAAAYAAAAE="
        ));
        assert!(verify(
            "GET",
            ranges,
            "get\npkranges\ndbs/aaaaaq==/colls/aaaaayaaaae="
        ));
        let container = "/dbs/AAAAAQ%3D%3D/colls/AAAAAYAAAAE%3D";
        assert!(verify("GET", container, "get\ncolls\naaaaayaaaae="));
        assert!(verify("GET", "/dbs/AAAAAQ==/", "get\ndbs\naaaaaq=="));
        // Another container's id, a name, a container of another database, and a name that looks like an id.
        assert!(!verify("GET", ranges, "get\npkranges\naaaaayaaaai="));
        for path in [
            "/dbs/shop/colls/events/pkranges",
            "/dbs/AAAAAg==/colls/AAAAAYAAAAE=/pkranges",
            "/dbs/shop/colls/AAAAAYAAAAE=/pkranges",
        ] {
            let last = path.split('/').nth(4).unwrap().to_lowercase();
            assert!(!verify("GET", path, &format!("get\npkranges\n{last}")), "{path}");
        }
    }

    #[test]
    fn a_bad_key_is_refused_without_being_repeated() {
        let error = AccountKey::parse("not base64 at all!").err().unwrap();
        assert!(error.contains("base64") && !error.contains("at all"), "{error}");
        assert!(AccountKey::parse("").is_err());
        let key = AccountKey::random();
        assert_eq!(
            AccountKey::parse(key.secret()).ok().unwrap().secret(),
            key.secret()
        );
    }
}
