//! Orders into a container, one upsert each.

use std::time::Duration;

use azure_data_cosmos::clients::ContainerClient;
use azure_data_cosmos::options::{
    ContentResponseOnWrite, EndToEndOperationLatencyPolicy, ItemWriteOptions, OperationOptionsBuilder,
    ThrottlingRetryOptionsBuilder,
};
use azure_data_cosmos::CosmosError;

use crate::connect::one_line;
use crate::order::Order;
use crate::run::{Failure, WriteError, Writer};

/// Upserts orders into a container.
pub struct Upserts {
    container: ContainerClient,
    options: ItemWriteOptions,
}

impl Upserts {
    /// Upserts into `container`, each request limited to `timeout`.
    pub fn new(container: ContainerClient, timeout: Duration) -> Self {
        let operation = OperationOptionsBuilder::new()
            .with_content_response_on_write(ContentResponseOnWrite::Disabled)
            .with_end_to_end_latency_policy(EndToEndOperationLatencyPolicy::new(timeout))
            // A 429 comes back at once, so that it is counted and waited for in one place.
            .with_throttling_retry_options(
                ThrottlingRetryOptionsBuilder::new()
                    .with_max_retry_count(0)
                    .build(),
            )
            .build();
        Self {
            container,
            options: ItemWriteOptions::default().with_operation_options(operation),
        }
    }
}

impl Writer for Upserts {
    async fn write(&self, order: &Order) -> Result<f64, WriteError> {
        self.container
            .upsert_item(
                order.customer_id.clone(),
                &order.id,
                &order.body,
                Some(self.options.clone()),
            )
            .await
            .map(|response| {
                response
                    .headers()
                    .request_charge()
                    .map_or(0.0, |charge| charge.value())
            })
            .map_err(|error| classify(&error))
    }
}

fn classify(error: &CosmosError) -> WriteError {
    let retry_after = error
        .response()
        .and_then(|r| r.headers().retry_after_ms)
        .map(Duration::from_millis);
    let failure = match u16::from(error.status().status_code()) {
        429 => Failure::Throttled,
        408 | 410 | 449 | 500 | 502 | 503 | 504 => Failure::Transient,
        401 | 403 | 404 => Failure::Fatal,
        _ => Failure::Rejected,
    };
    WriteError {
        failure,
        retry_after,
        message: one_line(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::StatusCode;
    use azure_data_cosmos::CosmosStatus;

    #[test]
    fn statuses_decide_what_happens_next() {
        for (status, failure) in [
            (429, Failure::Throttled),
            (503, Failure::Transient),
            (408, Failure::Transient),
            (410, Failure::Transient),
            (449, Failure::Transient),
            (401, Failure::Fatal),
            (404, Failure::Fatal),
            (400, Failure::Rejected),
            (413, Failure::Rejected),
        ] {
            let error = CosmosError::builder()
                .with_status(CosmosStatus::new(StatusCode::from(status)))
                .with_message("x")
                .build();
            assert_eq!(classify(&error).failure, failure, "{status}");
        }
    }
}
