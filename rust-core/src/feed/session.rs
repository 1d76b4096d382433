//! What a session token of the service tells.

use crate::split::fingerprint;

/// The number of the newest write in a session token, such as `0:-1#42#1=40` or `0:42`: the second part behind the colon, or the only one.
pub fn session_lsn(token: &str) -> Option<i64> {
    let (_, vector) = token.rsplit_once(':')?;
    let mut parts = vector.split('#');
    let first = parts.next();
    parts.next().or(first)?.parse().ok()
}

/// Tells the partition that a session token is of from others, by the part in front of the numbers.
pub fn session_partition(token: &str) -> Option<u64> {
    let (partition, _) = token.rsplit_once(':')?;
    Some(fingerprint([partition]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_token_tells_partitions_apart() {
        let of = session_partition;
        assert_eq!(of("7:-1#42"), of("7:-1#43#1=2"));
        assert_ne!(of("7:-1#42"), of("17:-1#42"));
        assert_eq!(of("42"), None);
    }

    #[test]
    fn a_session_token_is_read_in_both_forms() {
        assert_eq!(session_lsn("0:-1#42#1=40#2=-1"), Some(42));
        assert_eq!(session_lsn("17:42"), Some(42));
        assert_eq!(session_lsn("0:3#7"), Some(7));
        for other in ["", "42", "0:", "0:x", "0:1#", "0:1#y#1=2"] {
            assert_eq!(session_lsn(other), None, "{other}");
        }
    }
}
