//! Container definitions in the spelling of some clients.

use bytes::Bytes;
use serde_json::Value;

/// A container's definition with the version of its partition key as a number: Java's SDK writes `"V2"`, and the service
/// takes it. `None` where nothing has to change.
pub(crate) fn numbered_version(body: &[u8]) -> Option<Bytes> {
    let mut container: Value = serde_json::from_slice(body).ok()?;
    let version = container.get_mut("partitionKey")?.get_mut("version")?;
    let number: u32 = version.as_str()?.trim_start_matches(['V', 'v']).parse().ok()?;
    *version = number.into();
    Some(container.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_of_a_key_becomes_a_number() {
        let with =
            |version: Value| json!({ "id": "c", "partitionKey": { "paths": ["/pk"], "version": version } });
        for text in ["V2", "v2", "2"] {
            let body = numbered_version(with(text.into()).to_string().as_bytes()).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&body).unwrap(),
                with(2.into()),
                "{text}"
            );
        }
        for same in [with(2.into()), with("new".into()), json!({ "id": "c" })] {
            assert_eq!(numbered_version(same.to_string().as_bytes()), None, "{same}");
        }
    }
}
