//! Takes the leases of a change feed processor over, for a job that begins where it has stopped.

use std::time::Duration;

use tokio::time::Instant;

use super::format::{Lease, Mark};
use super::publisher::times;
use super::store::{gone_or_changed, LeaseStore};
use super::takeover::{is_ours, judge, Partition, Piece, Verdict, Wanted, Watch};
use super::token::{Position, Ranged};
use crate::clock::epoch_millis;
use crate::config::{RetryConfig, Start};
use crate::error::{CoreError, Kind, Result};
use crate::metrics::Metrics;
use crate::retry::{until_answered, Attempts};
use crate::split::{Mode, Split, Stop};

/// Waits until nobody owns the leases any more, takes them all, and gives the ranges and positions that they stand for. May be given up at
/// any point: what was taken by then is free for the next attempt of the same job.
///
/// # Errors
/// State, where they must not be taken; what the requests failed with; Transient when they are others each time that they are taken.
pub async fn acquire(
    store: &LeaseStore,
    wanted: &Wanted,
    partitions: &[Partition],
    retry: &RetryConfig,
    seed: u64,
    metrics: &Metrics,
) -> Result<Vec<Piece>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut attempts = || Attempts::seeded(retry, rng.u64(..));
    let mark = Mark {
        job: wanted.identity.job.clone(),
        checkpoint: 0,
    };
    let mut watched = Watch::default();
    let mut told = false;
    // Rounds that met something else than was read before: they have pauses and an end, like attempts of a request.
    let mut rounds = attempts();
    'look: loop {
        let mut found = until_answered(attempts(), metrics, "reading leases", || store.read(metrics)).await?;
        let verdict = judge(
            wanted,
            &mut found,
            partitions,
            &mut watched,
            epoch_millis(),
            times(store.config()),
        )?;
        let pieces = match verdict {
            Verdict::Wait { millis, owner } => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        target: "cosmosflink::source",
                        "the leases with the prefix '{}' belong to '{owner}': waiting until it gives them back or they expire",
                        wanted.prefix
                    );
                }
                tokio::time::sleep(Duration::from_millis(millis.unsigned_abs())).await;
                continue;
            }
            Verdict::Take(pieces) => pieces,
        };
        for lease in &found.leases {
            let document = lease.with_owner(Some(&wanted.identity.host), &mark, epoch_millis());
            let key = lease.key.as_deref();
            let write = || store.replace((&lease.id, key), &document, &lease.etag, metrics);
            match until_answered(attempts(), metrics, "taking a lease", write).await {
                Ok(_) => {}
                // Somebody was faster, or an attempt of ours that was not answered did it: what is there now says which.
                Err(e) if gone_or_changed(&e) => {
                    pause(&mut rounds, met(wanted, lease, &e)).await?;
                    continue 'look;
                }
                Err(e) => return Err(e),
            }
        }
        // A processor that has been waking up while they were taken has written some of them by now, or will find its own gone.
        let mut after = until_answered(attempts(), metrics, "reading leases", || store.read(metrics)).await?;
        if let Some(lost) = after.leases.iter().find(|l| !is_ours(l, &wanted.identity)) {
            // A replica that is behind answers with what was there before.
            if found
                .leases
                .iter()
                .any(|before| before.id == lost.id && before.etag == lost.etag)
            {
                let behind = CoreError::new(
                    Kind::Transient,
                    format!(
                        "lease '{}' of container '{}' is still read as it was before this job took it: the replicas are behind",
                        lost.id, wanted.container
                    ),
                );
                pause(&mut rounds, behind).await?;
                continue;
            }
            return Err(CoreError::state(format!(
                "lease '{}' of container '{}' was taken by '{}' while this job took it over; stop the processor, then start the job again",
                lost.id,
                wanted.container,
                lost.owner.as_deref().unwrap_or_default()
            )));
        }
        let position = |a: &Piece| (a.min.clone(), a.max.clone(), a.reached.clone());
        let again = judge(
            wanted,
            &mut after,
            partitions,
            &mut Watch::default(),
            epoch_millis(),
            times(store.config()),
        )?;
        match again {
            Verdict::Take(now) if now.iter().map(position).eq(pieces.iter().map(position)) => {
                tracing::info!(
                    target: "cosmosflink::source",
                    "took {} leases of container '{}' with the prefix '{}'",
                    after.leases.len(),
                    wanted.container,
                    wanted.prefix
                );
                return Ok(pieces);
            }
            _ => {
                let changed = CoreError::new(
                    Kind::Transient,
                    format!(
                        "the positions in the leases of container '{}' with the prefix '{}' have changed while this job took them over; stop the \
                         processor, then start the job again",
                        wanted.container, wanted.prefix
                    ),
                );
                pause(&mut rounds, changed).await?;
            }
        }
    }
}

/// That a lease was not there any more as it had been read.
fn met(wanted: &Wanted, lease: &Lease, refused: &CoreError) -> CoreError {
    CoreError {
        status: refused.status,
        sub_status: refused.sub_status,
        activity_id: refused.activity_id.clone(),
        ..CoreError::new(
            Kind::Transient,
            format!(
                "lease '{}' of container '{}' could not be taken, it is another one each time (status {}): {refused}",
                lease.id, wanted.container, refused.status
            ),
        )
    }
}

/// Waits before the next round.
///
/// # Errors
/// What this round failed with, where it was the last.
async fn pause(rounds: &mut Attempts, failure: CoreError) -> Result<()> {
    match rounds.next(&failure, Instant::now()) {
        Some(wait) => {
            tokio::time::sleep(wait).await;
            Ok(())
        }
        None => Err(failure),
    }
}

/// The split that goes on from a lease's position, up to a stop. Its number is the caller's to give.
///
/// # Errors
/// State when the lease's start is a time that no calendar has.
pub fn split_of(piece: &Piece, rid: &str, mode: Mode, stop: Stop) -> Result<Split> {
    // With a position a start counts only where it is a time, which the service compares with every page.
    let start = match (&piece.reached.etag, piece.reached.start) {
        (Some(_), Some(start @ Start::PointInTime(_))) | (None, Some(start)) => start,
        _ if mode == Mode::AllVersionsAndDeletes => Start::Now,
        _ => Start::Beginning,
    };
    let continuation = piece.reached.etag.as_ref().map(|etag| {
        Position {
            rid: rid.to_owned(),
            full_fidelity: mode == Mode::AllVersionsAndDeletes,
            ranges: vec![Ranged {
                min: piece.min.clone(),
                max: piece.max.clone(),
                etag: etag.clone(),
            }],
            start: Some(start),
        }
        .encode()
    });
    Ok(Split {
        ordinal: 0,
        container_rid: rid.to_owned(),
        min: piece.min.clone(),
        max: piece.max.clone(),
        mode,
        start,
        continuation: continuation.transpose()?,
        stop,
        then: None,
        fingerprint: None,
    })
}
