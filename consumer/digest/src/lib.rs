//! One digest of a set of document ids, the same in every program that counts documents.
//!
//! Two programs that saw the same ids, in whatever order, print the same 32 hexadecimal digits. A duplicate must be left
//! out by the caller: the digest is a sum, so that an id added twice shows.

use std::fmt;

use sha2::{Digest, Sha256};

/// The first 128 bits of SHA-256 of the id's UTF-8 bytes. It also serves as the fixed-size key of a set of seen ids.
pub fn hash_id(id: &str) -> u128 {
    let hash = Sha256::digest(id.as_bytes());
    let mut first = [0u8; 16];
    first.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(first)
}

/// The sum, modulo 2^128, of the hashes of the ids added so far. Displays as 32 hexadecimal digits; empty is all zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdsDigest(u128);

impl IdsDigest {
    /// Adds one id by its [`hash_id`].
    pub fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }
}

impl fmt::Display for IdsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromIterator<u128> for IdsDigest {
    fn from_iter<I: IntoIterator<Item = u128>>(hashes: I) -> Self {
        let mut digest = Self::default();
        hashes.into_iter().for_each(|hash| digest.add(hash));
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: &[&str]) -> String {
        ids.iter()
            .map(|id| hash_id(id))
            .collect::<IdsDigest>()
            .to_string()
    }

    #[test]
    fn the_order_does_not_matter() {
        assert_eq!(of(&["a", "b", "c"]), of(&["c", "a", "b"]));
    }

    #[test]
    fn a_missing_a_changed_and_a_repeated_id_show() {
        let whole = of(&["a", "b", "c"]);
        for other in [
            &["a", "b"][..],
            &["a", "b", "d"],
            &["a", "b", "c", "c"],
            &["a", "b", "c", "c", "c"],
        ] {
            assert_ne!(whole, of(other), "{other:?}");
        }
    }

    #[test]
    fn the_function_is_fixed() {
        // SHA-256("abc") begins with ba7816bf 8f01cfea 414140de 5dae2223: another program can check against it.
        assert_eq!(of(&["abc"]), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(of(&[]), "0".repeat(32));
    }
}
