//! Offers, that is provisioned throughput: an offer names its container by the link that the container's `_self` is.
//! The emulator names it by the resource id alone, which no client asks for.

use base64::{engine::general_purpose::STANDARD, Engine as _};
use bytes::Bytes;
use serde_json::Value;

/// Bits of an offer's id for the database, and for the container.
const HALF: u32 = 12;

/// The link of a container by its resource id, whose first four bytes are its database's.
fn link(rid: &str) -> Option<String> {
    let bytes = STANDARD.decode(rid.replace('-', "/")).ok()?;
    let database = STANDARD.encode(bytes.get(..4)?).replace('/', "-");
    match bytes.len() {
        4 => Some(format!("dbs/{rid}/")),
        8 => Some(format!("dbs/{database}/colls/{rid}/")),
        _ => None,
    }
}

/// An offer's id as clients know it: a resource id of three bytes, half of them for the database and half for the
/// container, from the emulator's `offer_DATABASE_CONTAINER`. `None` for numbers that do not fit.
fn outer_id(id: &str) -> Option<String> {
    let (database, container) = id.strip_prefix("offer_")?.split_once('_')?;
    let (database, container): (u32, u32) = (database.parse().ok()?, container.parse().ok()?);
    if database >= 1 << HALF || container >= 1 << HALF {
        return None;
    }
    let bytes = (database << HALF | container).to_be_bytes();
    Some(STANDARD.encode(&bytes[1..]).replace('/', "-"))
}

/// The emulator's id of an offer.
pub(crate) fn inner_id(id: &str) -> Option<String> {
    let bytes: [u8; 3] = STANDARD.decode(id.replace('-', "/")).ok()?.try_into().ok()?;
    let both = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    Some(format!("offer_{}_{}", both >> HALF, both & ((1 << HALF) - 1)))
}

/// The resource id that a link ends with.
fn rid(link: &str) -> Option<&str> {
    let rid = link
        .strip_prefix("dbs/")?
        .trim_end_matches('/')
        .rsplit('/')
        .next()?;
    self::link(rid)
        .is_some_and(|whole| whole.trim_end_matches('/') == link.trim_end_matches('/'))
        .then_some(rid)
}

/// A query over offers with the links in it, as parameters or as text, in the emulator's terms.
pub(crate) fn inner_query(body: &[u8]) -> Option<Bytes> {
    let mut spec: Value = serde_json::from_slice(body).ok()?;
    let query = spec["query"].as_str()?;
    let query = crate::sql::single_quoted(query).unwrap_or_else(|| query.to_owned());
    let parts: Vec<_> = query.split('\'').map(|part| rid(part).unwrap_or(part)).collect();
    spec["query"] = parts.join("'").into();
    let parameters = spec.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if let Some(rid) = parameter["value"].as_str().and_then(rid).map(str::to_owned) {
            parameter["value"] = rid.into();
        }
    }
    Some(spec.to_string().into())
}

/// Offers in an answer, one or a list of them, with their links.
pub(crate) fn outer(body: &[u8]) -> Option<Bytes> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    let one = |offer: &mut Value| {
        if let Some(link) = offer["resource"].as_str().and_then(link) {
            offer["resource"] = link.into();
        }
        if let Some(id) = offer["id"].as_str().and_then(outer_id) {
            offer["_self"] = format!("offers/{id}/").into();
            offer["_rid"] = id.as_str().into();
            offer["id"] = id.into();
        }
    };
    if answer.get("offerResourceId").is_some() {
        one(&mut answer);
    } else {
        answer.get_mut("Offers")?.as_array_mut()?.iter_mut().for_each(one);
    }
    Some(answer.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_and_resource_ids_are_exchanged() {
        let container = "dbs/AAAAAQ==/colls/AAAAAYAAAAE=/";
        assert_eq!(link("AAAAAYAAAAE=").as_deref(), Some(container));
        assert_eq!(rid(container), Some("AAAAAYAAAAE="));
        assert_eq!(rid("dbs/AAAAAg==/colls/AAAAAYAAAAE=/"), None);
        assert_eq!(rid("dbs/shop/colls/events"), None);
        let query = json!({
            "query": format!(r#"SELECT * FROM r WHERE r.resource = "{container}" OR r.resource = @l"#),
            "parameters": [{ "name": "@l", "value": container }],
        });
        let inner: Value =
            serde_json::from_slice(&inner_query(query.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(
            inner["query"],
            "SELECT * FROM r WHERE r.resource = 'AAAAAYAAAAE=' OR r.resource = @l"
        );
        assert_eq!(inner["parameters"][0]["value"], "AAAAAYAAAAE=");
        let offer =
            json!({ "id": "offer_1_2", "resource": "AAAAAYAAAAE=", "offerResourceId": "AAAAAYAAAAE=" });
        let whole = json!({ "Offers": [offer] }).to_string();
        for (body, at) in [(whole, "/Offers/0/resource"), (offer.to_string(), "/resource")] {
            let outer: Value = serde_json::from_slice(&outer(body.as_bytes()).unwrap()).unwrap();
            assert_eq!(outer.pointer(at).unwrap(), container);
        }
        for inner in ["offer_1_2", "offer_0_0", "offer_4095_4095"] {
            let id = outer_id(inner).unwrap();
            assert_eq!((id.len(), inner_id(&id).as_deref()), (4, Some(inner)));
        }
        assert_eq!((outer_id("offer_4096_1"), inner_id("offer_4096_1")), (None, None));
    }
}
