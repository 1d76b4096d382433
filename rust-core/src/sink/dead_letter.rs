//! What the service refuses for good, kept with its reason in a container of its own.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use azure_core::time::{to_rfc3339, OffsetDateTime};
use serde_json::value::RawValue;
use serde_json::{json, Value};

use crate::account::Account;
use crate::config::Config;
use crate::error::{CoreError, Result};
use crate::metrics::Metrics;
use crate::retry::until_answered;

use super::operation::Operation;
use super::wire::{Container, Service};
use super::{decode_operations, encode_operations, NewOperation, OperationKind};

/// Most bytes of a refused document that are kept; the rest of the letter and its escapes must fit into 2 MiB too.
const MAX_KEPT: usize = 900 * 1024;

/// Fields of a letter that its container may be partitioned by.
const KEY_FIELDS: [&str; 4] = ["/container", "/id", "/operation", "/reason"];

/// The dead-letter container.
pub struct DeadLetters {
    letters: Container,
    key_field: &'static str,
}

impl DeadLetters {
    pub async fn open(
        account: &Arc<Account>,
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
    ) -> Result<DeadLetters> {
        let container = account.container(config, &config.dead_letter_container).await?;
        let paths = container.partition_key_definition().paths();
        let key_field = match paths {
            [path] => KEY_FIELDS.into_iter().find(|f| f == path),
            _ => None,
        };
        let key_field = key_field.ok_or_else(|| {
            CoreError::config(format!(
                "dead-letter container '{}' has the partition key path {}; it must be one of {}",
                config.dead_letter_container,
                paths.join(", "),
                KEY_FIELDS.join(", ")
            ))
        })?;
        let letters = Container {
            account: account.clone(),
            container,
            config: config.clone(),
            metrics: metrics.clone(),
        };
        Ok(DeadLetters {
            letters,
            key_field: &key_field[1..],
        })
    }

    /// Stores a refused operation; tries again like any other write. Its id follows from its content, so that a replay after
    /// a restore writes the same letter.
    pub async fn store(&self, op: &Operation, error: &CoreError) -> Result<()> {
        let letter = letter(&self.letters.config.container, op, error);
        let key = json!([letter[self.key_field]]).to_string();
        let id = letter["id"].as_str().unwrap_or_default();
        let document = letter.to_string();
        let new = NewOperation {
            token: 0,
            kind: OperationKind::Upsert,
            id,
            partition_key: &key,
            if_match: "",
            document: document.as_bytes(),
        };
        let write = decode_operations(encode_operations(&[new]))?.remove(0);
        let (retry, metrics) = (&self.letters.config.retry, &self.letters.metrics);
        until_answered(retry, metrics, "storing a dead letter", || async {
            match self.letters.point(&write).await.error {
                Some(e) => Err(*e),
                None => Ok(()),
            }
        })
        .await
    }
}

/// The letter: what was refused, why, by which operation and when.
fn letter(container: &str, op: &Operation, error: &CoreError) -> Value {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (
            salt,
            container,
            op.partition_key(),
            op.id(),
            op.kind as u8,
            op.body(),
        )
            .hash(&mut hasher);
        hasher.finish()
    };
    let truncated = op.body().len() > MAX_KEPT;
    // A document that is JSON stays JSON; anything else, or a part, is kept as text.
    let document = match serde_json::from_slice::<&RawValue>(op.body()) {
        Ok(raw) if !truncated => serde_json::from_str(raw.get()).unwrap_or(Value::Null),
        _ => Value::String(String::from_utf8_lossy(&op.body()[..op.body().len().min(MAX_KEPT)]).into_owned()),
    };
    json!({
        "id": format!("{:016x}{:016x}", hash(0), hash(1)),
        "container": container,
        "operation": op.kind.name().to_lowercase(),
        "reason": format!("{:?}", error.kind),
        "status": error.status,
        "subStatus": error.sub_status,
        "message": error.message,
        "activityId": error.activity_id,
        "time": to_rfc3339(&OffsetDateTime::now_utc()),
        "documentId": op.id_text(),
        "partitionKey": String::from_utf8_lossy(op.partition_key()),
        "document": document,
        "documentBytes": op.body().len(),
        "truncated": truncated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn operation(document: &[u8]) -> Operation {
        let new = NewOperation {
            token: 0,
            kind: OperationKind::Create,
            id: "a",
            partition_key: "[\"eu\"]",
            if_match: "",
            document,
        };
        decode_operations(encode_operations(&[new])).unwrap().remove(0)
    }

    #[test]
    fn a_letter_holds_document_reason_status_operation_and_time() {
        let error = CoreError {
            status: 409,
            ..CoreError::new(Kind::Conflict, "exists")
        };
        let first = letter("events", &operation(b"{\"id\":\"a\"}"), &error);
        assert_eq!(first["document"], json!({"id": "a"}));
        assert_eq!(
            (&first["reason"], &first["status"], &first["operation"]),
            (&json!("Conflict"), &json!(409), &json!("create"))
        );
        assert!(first["time"].as_str().unwrap().ends_with('Z'));
        let again = letter("events", &operation(b"{\"id\":\"a\"}"), &error);
        assert_eq!(first["id"], again["id"]);
        assert_ne!(
            first["id"],
            letter("events", &operation(b"{\"id\":\"b\"}"), &error)["id"]
        );
    }

    #[test]
    fn what_is_not_json_or_too_large_is_kept_as_text() {
        let error = CoreError::new(Kind::BadRequest, "no");
        assert_eq!(
            letter("c", &operation(b"{broken"), &error)["document"],
            json!("{broken")
        );
        let large = letter("c", &operation(&vec![b'x'; MAX_KEPT + 1]), &error);
        assert_eq!(
            (
                large["truncated"].as_bool(),
                large["document"].as_str().map(str::len)
            ),
            (Some(true), Some(MAX_KEPT))
        );
    }
}
