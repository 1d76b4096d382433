//! Whether a container is still the one that a handle was opened with. One that was deleted and created anew under its name has other
//! documents, and the driver goes on with it without a word.

use azure_data_cosmos_driver::models::{ContainerReference, CosmosResponse};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use crate::account::{charge, read_options, within, Account};
use crate::config::Config;
use crate::error::{CoreError, Kind, Result, Trail};
use crate::partitions::MendRanges;
use crate::status::{Asked, Fate};

/// How long it counts that the container was there: a document that is not found in a container that was deleted in between is not there
/// either way.
const SEEN: Duration = Duration::from_secs(1);

/// Refuses to go on where the driver knows another container by this name: any user of the account that notices makes it send every
/// request to the new one from then on, without a word. Its cache answers; a request is made only where it was emptied.
///
/// # Errors
/// That of a container which was created anew, in the words that the table has for what was asked; those of a look-up.
pub async fn is_same(
    account: &Account,
    config: &Config,
    container: &ContainerReference,
    asked: Asked,
) -> Result<()> {
    let (name, driver) = (container.name(), &account.driver);
    // It may look the partitions up too.
    let mend = MendRanges::unless_ended(account, container);
    let database = container.database_name().unwrap_or(&config.database);
    let known = driver
        .resolve_container(database, name, read_options(config))
        .await
        .map_err(|e| CoreError::from_driver(&e, Asked::Metadata, Fate::NotCarriedOut));
    mend.ended(&known);
    let known = known?;
    match known.rid() == container.rid() {
        true => Ok(()),
        false => Err(recreated(asked, known.rid(), container.rid())),
    }
}

/// Refuses the answer of a container that was created anew while the driver was asking: it looks the new one up by itself.
///
/// # Errors
/// That of a container which was created anew.
pub fn same_container(response: CosmosResponse, asked: Asked) -> Result<CosmosResponse> {
    let diagnostics = response.diagnostics_ref();
    if diagnostics.request_count() < 2 || !Trail::of(diagnostics, asked).recreated {
        return Ok(response);
    }
    let mut error = CoreError::answered(
        (410, 1000),
        asked,
        Fate::Unknown,
        "the driver found another container",
    );
    error.request_charge = charge(&response);
    Err(error)
}

/// What the service said last of whether the container is there.
#[derive(Default)]
pub struct Seen(Mutex<Option<Check>>);

struct Check {
    begun: Instant,
    ended: Instant,
    outcome: Result<()>,
}

impl Seen {
    /// Asks the service whether the container is there, unless it said so a moment ago. Of those who want to know at the same time one asks.
    ///
    /// # Errors
    /// That of a container which was created anew, or is gone; those of a look-up.
    pub async fn check(
        &self,
        account: &Account,
        config: &Config,
        container: &ContainerReference,
        asked: Asked,
    ) -> Result<()> {
        let wanted = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(check) = &*last {
            let counts = match &check.outcome {
                Ok(()) => wanted.duration_since(check.begun) < SEEN,
                // It was waited for.
                Err(_) => check.ended >= wanted,
            };
            if counts {
                return check.outcome.clone();
            }
        }
        let begun = Instant::now();
        let look_up = account.check_container(config, container);
        let outcome = match within(config.request_timeout, look_up).await {
            Err(e) if e.kind == Kind::State => {
                let error = recreated(asked, "another one", container.rid());
                Err(error.while_doing(e.message))
            }
            outcome => outcome,
        };
        *last = Some(Check {
            begun,
            ended: Instant::now(),
            outcome: outcome.clone(),
        });
        outcome
    }
}

/// The failure of what was asked of a container that has been created anew, in the words of the table.
fn recreated(asked: Asked, now: &str, opened: &str) -> CoreError {
    CoreError::answered(
        (410, 1000),
        asked,
        Fate::NotCarriedOut,
        format!("resource id {now} in place of {opened}"),
    )
}
