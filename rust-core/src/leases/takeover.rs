//! Whether the leases of a change feed processor may be taken, and what positions they stand for. Decides from what was read and when;
//! it reads and writes nothing.

use std::collections::BTreeMap;

use super::format::{Format, Lease, Reached, Sdk};
use super::Identity;
use crate::bound::Bound;
use crate::config::Start;
use crate::error::{CoreError, Result};

/// What lies in a lease container under the two prefixes that a processor of this container may have.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// All leases, those of both prefixes.
    pub leases: Vec<Lease>,
    /// Whether a store says that all of its leases are there (`.info`).
    pub initialised: bool,
    /// Id of a `.lock`, where a store is being initialised.
    pub lock: Option<String>,
}

/// A partition of the container, by which range ids are understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its id.
    pub id: String,
    /// Inclusive lower bound.
    pub min: String,
    /// Exclusive upper bound.
    pub max: String,
    /// Ids of those that it has come from, the oldest first.
    pub parents: Vec<String>,
}

/// What the leases must be for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Who takes them.
    pub identity: Identity,
    /// For messages.
    pub container: String,
    /// Resource id of the container.
    pub rid: String,
    /// Prefix of the leases, for messages.
    pub prefix: String,
    /// Whether the source reads the mode AllVersionsAndDeletes.
    pub full_fidelity: bool,
    /// Where a lease without position begins.
    pub null_start: Option<Start>,
    /// In which form progress is published in their place; `None`: it is not.
    pub publish: Option<Sdk>,
}

/// A feed range, how far it is read, and the lease that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Inclusive lower bound.
    pub min: String,
    /// Exclusive upper bound.
    pub max: String,
    /// The position.
    pub reached: Reached,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// An owner may be alive: look again after so many milliseconds.
    Wait {
        /// Until the next look.
        millis: i64,
        /// Who is waited for.
        owner: String,
    },
    /// All of the leases are free: write each of them, then read from these positions.
    Take(Vec<Piece>),
}

/// The times by which an owner counts as alive or dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Without a renewal for so long, a lease is free. Milliseconds.
    pub expiration: i64,
    /// Pause between two renewals. Milliseconds.
    pub renewal: i64,
}

/// How long an owner must be watched before it counts as dead, by what it last wrote. A clock may be wrong by more than the expiration,
/// so that a lease must not have changed over two renewals either, unless it is far older.
pub fn watch(lease: &Lease, now: i64, times: Times) -> i64 {
    let age = now - lease.renewed;
    match age > 10 * times.expiration {
        true => 0,
        false => (times.expiration - age.max(0)).max(2 * times.renewal),
    }
}

/// What was seen of the leases with owners, look by look.
#[derive(Clone, Debug, Default)]
pub struct Watch(BTreeMap<String, (String, i64)>);

impl Watch {
    /// Time that is left until `lease` is free; 0: now.
    ///
    /// # Errors
    /// State when it has changed since it was seen first: its owner is alive.
    fn left(&mut self, wanted: &Wanted, lease: &Lease, now: i64, times: Times) -> Result<i64> {
        let owner = lease.owner.as_deref().unwrap_or_default();
        let until = now + watch(lease, now, times);
        let (etag, until) = self
            .0
            .entry(lease.id.clone())
            .or_insert_with(|| (lease.etag.clone(), until));
        if *etag != lease.etag {
            return Err(CoreError::state(format!(
                "the leases of container '{}' with the prefix '{}' belong to '{owner}', which is alive: it has renewed '{}' just now; stop it, \
                 or choose another prefix (scan.lease.prefix)",
                wanted.container, wanted.prefix, lease.id
            )));
        }
        Ok((*until - now).max(0))
    }
}

/// Decides about the leases as they are at `now`, epoch milliseconds. Those that only name a partition get its range.
///
/// # Errors
/// State, where they must not be taken, with the reason and what to do about it.
pub fn judge(
    wanted: &Wanted,
    store: &mut Store,
    partitions: &[Partition],
    watched: &mut Watch,
    now: i64,
    times: Times,
) -> Result<Verdict> {
    let refuse = |why: String| {
        Err(CoreError::state(format!(
            "the leases of container '{}' with the prefix '{}' cannot be taken over: {why}",
            wanted.container, wanted.prefix
        )))
    };
    if store.leases.is_empty() {
        return refuse("there are none; check scan.lease.container, scan.lease.prefix and the endpoint, whose host name is part of their ids".into());
    }
    if let Some(lock) = &store.lock {
        return refuse(format!(
            "a processor is initialising them ('{lock}' is there); wait until it is done, and stop it. Where none runs, one has ended meanwhile: delete that document"
        ));
    }
    if !store.initialised {
        return refuse("they were never completed (there is no document that ends in '.info'); let the processor start once, and stop it".into());
    }
    let by_names = store.leases.iter().filter(|l| l.format == Format::J0).count();
    if by_names > 0 && by_names < store.leases.len() {
        return refuse(
            "there are those of the Java SDK's handleChanges and later ones beside each other; delete those that are not used any more".into(),
        );
    }
    if let Some(other) = store
        .leases
        .iter()
        .find(|l| (l.format == Format::J1) != (store.leases[0].format == Format::J1))
    {
        return refuse(format!(
            "'{}' has another form ({}) than '{}' ({}); delete those that are not used any more",
            other.id,
            other.format.name(),
            store.leases[0].id,
            store.leases[0].format.name()
        ));
    }
    if let Some(theirs) = store
        .leases
        .first()
        .map(|l| l.format.sdk())
        .filter(|theirs| wanted.publish.is_some_and(|ours| ours != *theirs))
    {
        return refuse(format!(
            "they are of the {} SDK, which could not read what the job would write in their place (scan.lease.format); set scan.lease.format to '{}' or to 'none'",
            theirs.name(),
            theirs.option()
        ));
    }
    for lease in &store.leases {
        if lease
            .full_fidelity
            .is_some_and(|full| full != wanted.full_fidelity)
        {
            return refuse(format!(
                "'{}' is of the mode {}; set scan.change-feed.mode to it, or choose another prefix",
                lease.id,
                if wanted.full_fidelity {
                    "latest-version"
                } else {
                    "all-versions-and-deletes"
                }
            ));
        }
        if let Some(container) = lease.container.as_deref().filter(|c| !is_of(c, wanted)) {
            return refuse(format!(
                "'{}' is of the container '{container}', and this one has the resource id {}: it was deleted and created anew",
                lease.id, wanted.rid
            ));
        }
    }
    for lease in &mut store.leases {
        if lease.range.is_none() {
            match of_range_id(&lease.token, partitions) {
                Some(range) => lease.range = Some(range),
                None => {
                    return refuse(format!(
                        "'{}' is of the partition {}, of which this container has neither the range nor that of its children",
                        lease.id, lease.token
                    ))
                }
            }
        }
    }
    let leases = &store.leases;
    let pieces = match pieces(leases) {
        Ok(pieces) => pieces,
        Err((min, max)) => {
            return refuse(format!(
                "the range [{min}, {max}) has no lease; let the processor start once, so that it creates it, and stop it"
            ))
        }
    };
    let mut out = Vec::new();
    for mut piece in pieces {
        if piece.reached.etag.is_none() {
            piece.reached.start = match (piece.reached.start, wanted.null_start) {
                (Some(start), _) | (None, Some(start)) => Some(start),
                (None, None) => {
                    return refuse(format!(
                        "the lease of [{}, {}) has no position yet, and where it would begin only the processor's options know; say it with \
                         scan.lease.start (earliest, latest or a time)",
                        piece.min, piece.max
                    ))
                }
            };
        }
        out.push(piece);
    }
    let mut wait: Option<(i64, String)> = None;
    for lease in leases {
        let Some(owner) = lease.owner.as_ref().filter(|_| !is_ours(lease, &wanted.identity)) else {
            continue;
        };
        let left = watched.left(wanted, lease, now, times)?;
        if left > 0 && wait.as_ref().is_none_or(|(longest, _)| left > *longest) {
            wait = Some((left, owner.clone()));
        }
    }
    Ok(match wait {
        // Looked at again before the end, so that an owner that is alive is told soon.
        Some((left, owner)) => Verdict::Wait {
            millis: left.min(times.renewal / 4).max(1),
            owner,
        },
        None => Verdict::Take(out),
    })
}

/// Whether a lease was written by this very job, before it was started again.
pub fn is_ours(lease: &Lease, identity: &Identity) -> bool {
    lease.mark.as_ref().is_some_and(|mark| mark.job == identity.job)
}

/// Whether a state names the container, by its resource id or by a link.
fn is_of(said: &str, wanted: &Wanted) -> bool {
    said == wanted.rid
        || said.rsplit('/').next() == Some(wanted.container.as_str())
        || said.rsplit('/').next() == Some(&wanted.rid)
}

/// The range of a partition by its id; one that is gone has that of its descendants.
fn of_range_id(id: &str, partitions: &[Partition]) -> Option<(String, String)> {
    let mut of: Vec<&Partition> = partitions
        .iter()
        .filter(|p| p.id == id || p.parents.iter().any(|parent| parent == id))
        .collect();
    of.sort_by(|a, b| Bound(&a.min).cmp(&Bound(&b.min)));
    let (first, last) = (of.first()?, of.last()?);
    of.windows(2)
        .all(|pair| Bound(&pair[0].max) == Bound(&pair[1].min))
        .then(|| (first.min.clone(), last.max.clone()))
}

/// Where leases overlap, since a processor ended while it was replacing one by its children: the smallest that has a position counts, else
/// the smallest.
///
/// # Errors
/// A part of the key space that no lease has.
fn pieces(leases: &[Lease]) -> std::result::Result<Vec<Piece>, (String, String)> {
    let range = |lease: &Lease| lease.range.clone().unwrap_or_default();
    let mut bounds: Vec<String> = leases
        .iter()
        .flat_map(|l| <[String; 2]>::from(range(l)))
        .collect();
    bounds.extend([String::new(), "FF".to_owned()]);
    bounds.sort_unstable_by(|a, b| Bound(a).cmp(&Bound(b)));
    bounds.dedup_by(|a, b| Bound(a) == Bound(b));
    let mut out: Vec<(usize, Piece)> = Vec::new();
    for bound in bounds.windows(2) {
        let (min, max) = (&bound[0], &bound[1]);
        if Bound(max) > Bound("FF") {
            break;
        }
        let over = leases.iter().enumerate().filter(|(_, l)| {
            l.range
                .as_ref()
                .is_some_and(|(low, high)| Bound(low) <= Bound(min) && Bound(high) >= Bound(max))
        });
        // Of two that cover the same stretch the one with the later lower bound, or the earlier upper one, is the smaller.
        let best = over.min_by(|(_, a), (_, b)| {
            let ((alow, ahigh), (blow, bhigh)) = (range(a), range(b));
            (a.reached.etag.is_none().cmp(&b.reached.etag.is_none()))
                .then(Bound(&blow).cmp(&Bound(&alow)))
                .then(Bound(&ahigh).cmp(&Bound(&bhigh)))
        });
        let Some((number, lease)) = best else {
            return Err((min.clone(), max.clone()));
        };
        match out.last_mut() {
            Some((before, piece)) if *before == number => piece.max.clone_from(max),
            _ => out.push((
                number,
                Piece {
                    min: min.clone(),
                    max: max.clone(),
                    reached: lease.reached.clone(),
                },
            )),
        }
    }
    Ok(out.into_iter().map(|(_, piece)| piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leases::format::Mark;
    use serde_json::json;

    const TIMES: Times = Times {
        expiration: 60_000,
        renewal: 17_000,
    };
    const NOW: i64 = 1_800_000_000_000;

    fn wanted() -> Wanted {
        Wanted {
            identity: Identity {
                host: "us".into(),
                job: "j".into(),
            },
            container: "orders".into(),
            rid: "r".into(),
            prefix: "p".into(),
            full_fidelity: false,
            null_start: None,
            publish: None,
        }
    }

    /// A lease of .NET's, with an ETag of its document.
    fn lease(min: &str, max: &str, token: Option<&str>, owner: Option<&str>) -> Lease {
        let mut lease = Lease::decode(json!({
            "id": format!("p..{min}-{max}"), "_etag": "\"1\"", "LeaseToken": format!("{min}-{max}"), "version": 1, "Owner": owner,
            "ContinuationToken": token, "FeedRange": {"Range": {"min": min, "max": max}},
        }))
        .unwrap();
        lease.renewed = NOW - 1000;
        lease
    }

    fn by_id(id: &str, token: &str) -> Lease {
        Lease::decode(json!({"id": format!("p..{id}"), "LeaseToken": id, "ContinuationToken": token}))
            .unwrap()
    }

    fn store(leases: Vec<Lease>) -> Store {
        Store {
            leases,
            initialised: true,
            lock: None,
        }
    }

    fn ask(wanted: &Wanted, store: &Store) -> Result<Verdict> {
        judge(wanted, &mut store.clone(), &[], &mut Watch::default(), NOW, TIMES)
    }

    fn taken(verdict: Result<Verdict>) -> Vec<(String, String, Option<String>)> {
        match verdict.unwrap() {
            Verdict::Take(pieces) => pieces
                .into_iter()
                .map(|p| (p.min, p.max, p.reached.etag))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn piece(min: &str, max: &str, etag: Option<&str>) -> (String, String, Option<String>) {
        (min.into(), max.into(), etag.map(str::to_owned))
    }

    #[test]
    fn free_leases_that_cover_everything_are_taken() {
        let free = store(vec![
            lease("80", "FF", Some("\"2\""), None),
            lease("", "80", Some("\"1\""), None),
        ]);
        assert_eq!(
            taken(ask(&wanted(), &free)),
            [piece("", "80", Some("\"1\"")), piece("80", "FF", Some("\"2\""))]
        );
    }

    #[test]
    fn what_must_not_be_taken_is_refused_with_the_reason() {
        let whole = || lease("", "FF", Some("\"1\""), None);
        let with = |change: fn(&mut Lease)| {
            let mut lease = whole();
            change(&mut lease);
            lease
        };
        let cases = [
            (store(vec![]), "there are none"),
            (
                Store {
                    lock: Some("p.lock".into()),
                    ..store(vec![whole()])
                },
                "p.lock",
            ),
            (
                Store {
                    initialised: false,
                    ..store(vec![whole()])
                },
                ".info",
            ),
            (
                store(vec![lease("", "80", Some("\"1\""), None)]),
                "[80, FF) has no lease",
            ),
            (store(vec![lease("", "FF", None, None)]), "scan.lease.start"),
            (store(vec![whole(), by_id("0", "\"1\"")]), "beside each other"),
            (
                store(vec![whole(), with(|l| l.format = Format::J1)]),
                "another form",
            ),
            (
                store(vec![with(|l| l.full_fidelity = Some(true))]),
                "scan.change-feed.mode",
            ),
            (
                store(vec![with(|l| l.container = Some("other".into()))]),
                "created anew",
            ),
            (store(vec![by_id("7", "\"1\"")]), "partition 7"),
        ];
        for (store, why) in cases {
            let error = ask(&wanted(), &store).unwrap_err();
            assert!(
                error.message.contains(why) && error.message.contains("orders"),
                "{why}: {error}"
            );
            assert!(error.outlives_restart(), "{error}");
        }
    }

    #[test]
    fn leases_are_not_written_over_in_a_form_that_their_processor_cannot_read() {
        let publishing = |publish| Wanted { publish, ..wanted() };
        let of_dotnet = store(vec![lease("", "FF", Some("\"1\""), None)]);
        let error = ask(&publishing(Some(Sdk::Java)), &of_dotnet).unwrap_err();
        assert!(
            error.message.contains(".NET SDK") && error.message.contains("'dotnet'"),
            "{error}"
        );
        for publish in [None, Some(Sdk::DotNet)] {
            taken(ask(&publishing(publish), &of_dotnet));
        }
    }

    #[test]
    fn a_lease_without_position_begins_where_the_user_says() {
        let wanted = Wanted {
            null_start: Some(Start::Now),
            ..wanted()
        };
        let Verdict::Take(pieces) = ask(&wanted, &store(vec![lease("", "FF", None, None)])).unwrap() else {
            panic!();
        };
        assert_eq!(
            pieces[0].reached,
            Reached {
                etag: None,
                start: Some(Start::Now)
            }
        );
    }

    #[test]
    fn an_owner_that_renews_is_alive_and_one_that_does_not_dies() {
        let (wanted, mut watched) = (wanted(), Watch::default());
        let mut held = store(vec![lease("", "FF", Some("\"1\""), Some("them"))]);
        let mut at = |now, store: &Store| judge(&wanted, &mut store.clone(), &[], &mut watched, now, TIMES);
        assert!(matches!(at(NOW, &held), Ok(Verdict::Wait { owner, .. }) if owner == "them"));
        assert!(matches!(at(NOW + 30_000, &held), Ok(Verdict::Wait { .. })));
        assert!(matches!(at(NOW + 60_000, &held), Ok(Verdict::Take(_))));
        held.leases[0].etag = "\"2\"".into();
        let error = at(NOW + 61_000, &held).unwrap_err();
        assert!(error.message.contains("'them', which is alive"), "{error}");
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_kill_an_owner() {
        let (wanted, mut watched) = (wanted(), Watch::default());
        let held = store(vec![lease("", "FF", Some("\"1\""), Some("them"))]);
        // Here it seems to have expired long ago.
        let ahead = NOW + 90_000;
        assert!(matches!(
            judge(&wanted, &mut held.clone(), &[], &mut watched, ahead, TIMES),
            Ok(Verdict::Wait { .. })
        ));
        assert!(matches!(
            judge(
                &wanted,
                &mut held.clone(),
                &[],
                &mut watched,
                ahead + 34_000,
                TIMES
            ),
            Ok(Verdict::Take(_))
        ));
        // One that nobody has touched for ten times as long needs no watching.
        let old = NOW + 700_000;
        assert!(matches!(
            judge(&wanted, &mut held.clone(), &[], &mut Watch::default(), old, TIMES),
            Ok(Verdict::Take(_))
        ));
    }

    #[test]
    fn what_this_job_took_before_it_was_started_again_is_its_own() {
        let mut ours = lease("", "FF", Some("\"1\""), Some("us"));
        assert!(
            matches!(
                ask(&wanted(), &store(vec![ours.clone()])),
                Ok(Verdict::Wait { .. })
            ),
            "the name alone is not enough"
        );
        ours.mark = Some(Mark {
            job: "j".into(),
            checkpoint: 0,
        });
        taken(ask(&wanted(), &store(vec![ours])));
    }

    #[test]
    fn of_leases_that_overlap_the_childrens_positions_count_where_there_are_some() {
        let parent = || lease("", "FF", Some("\"5\""), None);
        let children = [
            lease("", "80", Some("\"7\""), None),
            lease("80", "FF", None, None),
        ];
        let all = store(vec![parent(), children[0].clone(), children[1].clone()]);
        assert_eq!(
            taken(ask(&wanted(), &all)),
            [piece("", "80", Some("\"7\"")), piece("80", "FF", Some("\"5\""))]
        );
        let one = store(vec![parent(), children[0].clone()]);
        assert_eq!(
            taken(ask(&wanted(), &one)),
            [piece("", "80", Some("\"7\"")), piece("80", "FF", Some("\"5\""))]
        );
    }

    #[test]
    fn bounds_that_are_written_otherwise_are_the_same() {
        let leases = vec![
            lease("", "8000", Some("\"1\""), None),
            lease("80", "FF", Some("\"2\""), None),
        ];
        let taken = taken(ask(&wanted(), &store(leases)));
        let etags: Vec<_> = taken.iter().map(|(_, _, etag)| etag.as_deref()).collect();
        assert_eq!(etags, [Some("\"1\""), Some("\"2\"")]);
        assert_eq!(taken[0].1, taken[1].0);
    }

    #[test]
    fn range_ids_are_those_of_partitions_or_of_their_children() {
        let partition = |id: &str, min: &str, max: &str, parents: &[&str]| Partition {
            id: id.into(),
            min: min.into(),
            max: max.into(),
            parents: parents.iter().map(|p| (*p).to_owned()).collect(),
        };
        let now = [
            partition("1", "", "40", &[]),
            partition("3", "40", "80", &["2"]),
            partition("4", "80", "FF", &["2"]),
        ];
        let mut store = store(vec![by_id("1", "\"1\""), by_id("2", "\"2\"")]);
        let verdict = judge(&wanted(), &mut store, &now, &mut Watch::default(), NOW, TIMES);
        assert_eq!(
            taken(verdict),
            [piece("", "40", Some("\"1\"")), piece("40", "FF", Some("\"2\""))]
        );
    }
}
