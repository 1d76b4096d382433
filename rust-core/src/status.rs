//! The one place that decides what an answer of the service means.
//!
//! [`judge`] looks an answer up in [`TABLE`]: status, sub-status, what was asked, and whether an earlier attempt of the same operation
//! may have been carried out. The verdict says what kind of failure it is, what to do next, whose fault it is, and whether the
//! attempt itself may have been carried out. Nothing else in the core looks at a status to decide something.
//!
//! Where the numbers come from:
//! * `[http]` <https://learn.microsoft.com/rest/api/cosmos-db/http-status-codes-for-cosmosdb>
//! * `[limits]` <https://learn.microsoft.com/azure/cosmos-db/concepts-limits>
//! * `[forbidden]` <https://learn.microsoft.com/azure/cosmos-db/troubleshoot-forbidden>
//! * `[notfound]` <https://learn.microsoft.com/azure/cosmos-db/troubleshoot-not-found>
//! * `[conflict]` <https://learn.microsoft.com/azure/cosmos-db/troubleshoot-bad-request> and `troubleshoot-precondition-failed` beside it
//! * `[modes]` <https://learn.microsoft.com/azure/cosmos-db/change-feed-modes>, all versions and deletes
//! * `[sdk]` <https://learn.microsoft.com/azure/cosmos-db/conceptual-resilient-sdk-applications>, what the vendor's clients retry
//! * `[driver]` `error/status_codes.rs` of `azure_data_cosmos_driver` 1.0.0: numbers from 20000 on are the driver's own

use crate::error::Kind;

/// What was asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// The account, a container's definition or its partitions.
    Metadata,
    /// A page of the change feed.
    Feed,
    /// A page of all versions and deletes, from now on.
    VersionsFromNow,
    /// A page of all versions and deletes, behind a position.
    VersionsBehind,
    /// A bulk request as a whole; its operations are judged by their own kinds.
    Bulk,
    /// A write, whether or not the document is there.
    Upsert,
    /// A write of a document that must not be there.
    Create,
    /// A write of a document unless it is there.
    CreateIgnoreExisting,
    /// A write of a document that must be there.
    Replace,
    /// A write of a document if it is there.
    ReplaceIfExists,
    /// A write of a document unless it was changed since its ETag, or is gone.
    ReplaceIfNotModified,
    /// A deletion.
    Delete,
    /// A deletion unless the document was changed since its ETag.
    DeleteIfNotModified,
    /// A patch of a document that must be there.
    Patch,
    /// A patch of a document if it is there.
    PatchIfExists,
    /// A write of what was made of a document that was read before: the ETag is the one that was read, and without one the document was not
    /// there.
    Update,
    /// A read of the document that a write is about.
    Read,
    /// Operations on documents of one partition key, all of them or none: what the first that fails is answered.
    Batch,
    /// A database or a container as such: whether it is there, what there is, its creation and its end.
    Manage,
    /// A page of an answer that nobody has a position in, as that of a look-up.
    Query,
}

impl Asked {
    /// Whether it is a write of one document, or the read that belongs to one.
    pub fn is_write(self) -> bool {
        !matches!(
            self,
            Asked::Metadata
                | Asked::Feed
                | Asked::VersionsFromNow
                | Asked::VersionsBehind
                | Asked::Bulk
                | Asked::Manage
                | Asked::Query
        )
    }
}

/// Whether an attempt was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The service refused it, or it never left this machine.
    NotCarriedOut,
    /// It was sent, and no answer says what became of it.
    Unknown,
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It counts as done.
    Done,
    /// It counts as done, although it changed nothing: by its strategy the document stands as it is. Such are counted.
    Superseded,
    /// Read the document: where it is the one that was to be written, this was the answer to a repetition, and it counts as done; else it
    /// is final.
    Compare,
    /// Read the document, since the answer alone does not say that it is there: where it is, the strategy leaves it as it is. Such are
    /// counted, but for one that an attempt of unknown fate has written.
    Confirm,
    /// Read the document again and make the write anew of what is read, until the deadline.
    Reread,
    /// Ask again after a wait, for as long as it takes: throttling. Ends only where an option sets a limit.
    Wait,
    /// Ask again after a wait, until the deadline.
    Retry,
    /// Read the container's partitions again, then ask again, until the deadline.
    Reroute,
    /// Ask for less: a bulk request is cut into halves until the culprit is alone, a page is asked for with fewer documents.
    Halve,
    /// It is final.
    End,
}

/// Whose failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// That of one record: it may be skipped or stored as a dead letter.
    Record,
    /// It would hit every record alike: dropping records for it would be losing data.
    Everybody,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What kind of failure it is, for the job.
    pub kind: Kind,
    /// Whether and how it is tried again.
    pub next: Next,
    /// Whom it hits.
    pub blame: Blame,
    /// What became of the attempt that got this answer.
    pub fate: Fate,
    /// What a person can do about it; empty where nothing need be done.
    pub advice: &'static str,
}

/// Which statuses a row is for.
#[derive(Clone, Copy, Debug)]
enum Status {
    Is(u16),
    OneOf(&'static [u16]),
    From(u16, u16),
}

/// Which sub-statuses a row is for.
#[derive(Clone, Copy, Debug)]
enum Sub {
    Any,
    Is(u32),
    OneOf(&'static [u32]),
    /// Lower ones: those of the service itself.
    Below(u32),
}

/// The driver's own sub-statuses begin here: what it says of a request without an answer of the service.
const DRIVERS_OWN: u32 = 20_000;

/// Which requests a row is for.
#[derive(Clone, Copy, Debug)]
enum For {
    All,
    Writes,
    OneOf(&'static [Asked]),
}

struct Row {
    status: Status,
    sub: Sub,
    asked: For,
    /// Only after an attempt whose fate is unknown.
    after_unknown: bool,
    verdict: Verdict,
    /// A case that this row must decide, by which the test finds a row that is shadowed.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the test of the table reads it"))]
    example: (u16, u32, Asked),
}

const RESTART_AFTER_RECREATION: &str = "the container was deleted and created anew since it was opened; restart the job (a source: without its state)";
const NO_VERSIONS: &str = "scan.change-feed.mode all-versions-and-deletes needs an account with continuous backup, and without merges of partitions; turn continuous backup on, which cannot be undone, or read with scan.change-feed.mode latest-version";
const VERSIONS_GONE: &str = "the position is older than the retention of the account's continuous backup (7 or 30 days), or backup was turned off, so that changes behind it are gone; start the job without its state, with scan.startup.mode initial for the container as it is now";
const CHECK_CREDENTIALS: &str = "check the options auth.*, and the data-plane role of the identity";
const STORAGE_FULL: &str = "the storage of this partition key is full (20 GB); delete documents of it or choose a finer partition key";
const CONTAINER_MISSING: &str =
    "the container or its database does not exist; create it or correct its name, then restart the job";
const MANAGING_FORBIDDEN: &str = "no data-plane role of Entra ID may create or drop databases and containers, only the account key may; to read what there is, check auth.* and the identity's role";
const BULK_FORBIDDEN: &str = "check the options auth.* and the identity's role; an emulator that does not know bulk requests may answer so too: set sink.bulk to false for it";

const fn row(
    status: Status,
    sub: Sub,
    asked: For,
    (kind, next, blame, fate): (Kind, Next, Blame, Fate),
    advice: &'static str,
    example: (u16, u32, Asked),
) -> Row {
    Row {
        status,
        sub,
        asked,
        after_unknown: false,
        verdict: Verdict {
            kind,
            next,
            blame,
            fate,
            advice,
        },
        example,
    }
}

const fn after_unknown(mut row: Row) -> Row {
    row.after_unknown = true;
    row
}

use Asked::{
    Batch, Bulk, Create, CreateIgnoreExisting, Delete, DeleteIfNotModified, Feed, Manage, Metadata, Patch,
    PatchIfExists, Query, Read, Replace, ReplaceIfExists, ReplaceIfNotModified, Update, Upsert,
    VersionsBehind, VersionsFromNow,
};
use Blame::{Everybody, Record};
use Fate::{NotCarriedOut as Refused, Unknown};
use Next::{Compare, Confirm, Done, End, Halve, Reread, Reroute, Retry, Superseded, Wait};

/// The first row that fits decides.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // -- what counts as done: there is nothing left to do
    after_unknown(row(Status::Is(404), Sub::Is(0), For::OneOf(&[DeleteIfNotModified]),
        (Kind::NotFound, Done, Record, Refused), "", (404, 0, DeleteIfNotModified))),
    // [notfound]: a delete that finds nothing has what it wanted, also at its first attempt: a replay after a restore must not fail.
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Delete]),
        (Kind::NotFound, Done, Record, Refused), "", (404, 0, Delete)),

    // -- what a strategy leaves as it is: docs/writing.md has them all
    // It may be another document that has the value of a unique key.
    row(Status::Is(409), Sub::Any, For::OneOf(&[CreateIgnoreExisting]),
        (Kind::Conflict, Confirm, Record, Refused), "", (409, 0, CreateIgnoreExisting)),
    // [conflict]: the earlier attempt may have changed the ETag that it was to match.
    after_unknown(row(Status::Is(412), Sub::Any, For::OneOf(&[ReplaceIfNotModified]),
        (Kind::Precondition, Confirm, Record, Refused), "", (412, 0, ReplaceIfNotModified))),
    // Of a patch it is its condition that does not hold.
    row(Status::Is(412), Sub::Any, For::OneOf(&[ReplaceIfNotModified, DeleteIfNotModified, Patch, PatchIfExists]),
        (Kind::Precondition, Superseded, Record, Refused), "", (412, 0, ReplaceIfNotModified)),
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[ReplaceIfNotModified, DeleteIfNotModified, ReplaceIfExists, PatchIfExists]),
        (Kind::NotFound, Superseded, Record, Refused), "", (404, 0, PatchIfExists)),

    // -- what was changed, made or taken out since it was read
    row(Status::OneOf(&[409, 412]), Sub::Any, For::OneOf(&[Update]),
        (Kind::Conflict, Reread, Record, Refused), "", (412, 0, Update)),
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Update]),
        (Kind::NotFound, Reread, Record, Refused), "", (404, 0, Update)),

    // -- what may be the answer to a repetition, after a restore or after an answer that was lost: only the document says so
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Batch]),
        (Kind::NotFound, Compare, Record, Refused), "", (404, 0, Batch)),
    row(Status::Is(409), Sub::Any, For::OneOf(&[Create, Batch]),
        (Kind::Conflict, Compare, Record, Refused), "", (409, 0, Create)),
    row(Status::Is(412), Sub::Any, For::OneOf(&[Replace, ReplaceIfExists, Upsert, Batch]),
        (Kind::Precondition, Compare, Record, Refused), "", (412, 0, Replace)),

    // -- throttling: [http], [sdk]. 3200 request units, 3088 a split, 3092 resources of the system, 3210 metadata, 3214 a hot key.
    row(Status::Is(429), Sub::Any, For::All,
        (Kind::Throttled, Wait, Everybody, Refused), "raise the throughput of the container, or lower the rate of the job", (429, 3200, Feed)),

    // -- recreated containers: [http], [driver] (`COLLECTION_RID_MISMATCH`, `NAME_CACHE_STALE`)
    row(Status::Is(400), Sub::Is(1024), For::OneOf(&[Feed, VersionsFromNow, VersionsBehind, Metadata]),
        (Kind::State, End, Everybody, Refused), RESTART_AFTER_RECREATION, (400, 1024, Feed)),
    row(Status::Is(410), Sub::Is(1000), For::OneOf(&[Feed, VersionsFromNow, VersionsBehind, Metadata]),
        (Kind::State, End, Everybody, Refused), RESTART_AFTER_RECREATION, (410, 1000, Metadata)),
    // A writer has no position in the old one, and neither has a look-up: it ends, and opens the new one when it is started again.
    row(Status::Is(400), Sub::Is(1024), For::All,
        (Kind::Transient, End, Everybody, Refused), RESTART_AFTER_RECREATION, (400, 1024, Bulk)),
    row(Status::Is(410), Sub::Is(1000), For::All,
        (Kind::Transient, End, Everybody, Refused), RESTART_AFTER_RECREATION, (410, 1000, Upsert)),

    // -- partitions that moved: [http]. 1002 split or merged away, 1007 being split or merged, 1008 being moved.
    row(Status::Is(410), Sub::Any, For::OneOf(&[Feed, VersionsFromNow, VersionsBehind, Metadata, Query]),
        (Kind::Transient, Retry, Everybody, Refused), "", (410, 1002, Feed)),
    row(Status::Is(410), Sub::Any, For::All,
        (Kind::Transient, Reroute, Everybody, Refused), "", (410, 1002, Bulk)),

    // -- 401: [http]; the driver's 20402 is a token that could not be had, and 20401 what it makes of that for a request; 5006 is a token
    // that has just expired.
    row(Status::Is(401), Sub::OneOf(&[20401, 20402, 5006]), For::All,
        (Kind::Transient, Retry, Everybody, Refused), "no token could be had from Entra ID; check the auth.* options and the way to the token endpoint", (401, 20402, Feed)),
    row(Status::Is(401), Sub::Any, For::All,
        (Kind::Auth, End, Everybody, Refused), CHECK_CREDENTIALS, (401, 0, Bulk)),

    // -- 403: [forbidden]. 3 a region that takes no writes, 1008 a region that has left the account: both end with a failover.
    row(Status::Is(403), Sub::OneOf(&[3, 1008]), For::All,
        (Kind::Transient, Retry, Everybody, Refused), "", (403, 3, Upsert)),
    // [limits]: 20 GB for one logical partition key.
    // Of a batch it may be what a repetition ends at before it comes to what its documents say, as are 400 and 413 below.
    row(Status::Is(403), Sub::Is(1014), For::OneOf(&[Batch]),
        (Kind::BadRequest, Compare, Record, Refused), STORAGE_FULL, (403, 1014, Batch)),
    row(Status::Is(403), Sub::Is(1014), For::Writes,
        (Kind::BadRequest, End, Record, Refused), STORAGE_FULL, (403, 1014, Create)),
    row(Status::Is(403), Sub::Is(1014), For::OneOf(&[Bulk]),
        (Kind::BadRequest, Halve, Everybody, Refused), "", (403, 1014, Bulk)),
    row(Status::Is(403), Sub::Any, For::OneOf(&[Bulk]),
        (Kind::Auth, End, Everybody, Refused), BULK_FORBIDDEN, (403, 0, Bulk)),
    row(Status::Is(403), Sub::Any, For::OneOf(&[Manage]),
        (Kind::Auth, End, Everybody, Refused), MANAGING_FORBIDDEN, (403, 0, Manage)),
    row(Status::Is(403), Sub::Any, For::All,
        (Kind::Auth, End, Everybody, Refused), CHECK_CREDENTIALS, (403, 0, Feed)),

    // -- 404: [notfound]. 1002 a session that is not there yet, 1013 a container that is still being created.
    row(Status::Is(404), Sub::OneOf(&[1002, 1013]), For::All,
        (Kind::Transient, Retry, Everybody, Refused), "", (404, 1013, Metadata)),
    // An upsert or a create that finds a document which expires at this moment.
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Upsert, Create, CreateIgnoreExisting]),
        (Kind::NotFound, Retry, Everybody, Refused), CONTAINER_MISSING, (404, 0, Upsert)),
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Replace, Patch, Read]),
        (Kind::NotFound, End, Record, Refused), "", (404, 0, Replace)),
    // Some servers answer so to the form itself; alone, each operation gets an answer of its own.
    row(Status::Is(404), Sub::Is(0), For::OneOf(&[Bulk]),
        (Kind::NotFound, Halve, Everybody, Refused), CONTAINER_MISSING, (404, 0, Bulk)),
    // The echo of one's own creation or end, or of somebody else's.
    after_unknown(row(Status::Is(409), Sub::Any, For::OneOf(&[Manage]),
        (Kind::Conflict, Compare, Everybody, Refused), "", (409, 0, Manage))),
    after_unknown(row(Status::Is(404), Sub::Any, For::OneOf(&[Manage]),
        (Kind::NotFound, Done, Everybody, Refused), "", (404, 0, Manage))),
    // Whether that is a failure at all, whoever asks knows.
    row(Status::Is(404), Sub::Any, For::OneOf(&[Manage]),
        (Kind::NotFound, End, Everybody, Refused), "", (404, 0, Manage)),
    row(Status::Is(409), Sub::Any, For::OneOf(&[Manage]),
        (Kind::Conflict, End, Everybody, Refused), "", (409, 0, Manage)),
    row(Status::Is(404), Sub::Any, For::All,
        (Kind::NotFound, End, Everybody, Refused), CONTAINER_MISSING, (404, 1003, Upsert)),

    // -- positions that do not fit: [driver]
    row(Status::Is(400), Sub::OneOf(&[20007, 20117, 20203, 20204, 20205, 20213, 20214]), For::OneOf(&[Feed, VersionsFromNow, VersionsBehind]),
        (Kind::State, End, Everybody, Refused), "the position does not fit this container; restore from another savepoint or start without state", (400, 20007, Feed)),

    // -- versions and deletes that the service does not have: [modes]
    row(Status::Is(400), Sub::Below(DRIVERS_OWN), For::OneOf(&[VersionsFromNow]),
        (Kind::Config, End, Everybody, Refused), NO_VERSIONS, (400, 0, VersionsFromNow)),
    row(Status::Is(400), Sub::Below(DRIVERS_OWN), For::OneOf(&[VersionsBehind]),
        (Kind::State, End, Everybody, Refused), VERSIONS_GONE, (400, 0, VersionsBehind)),

    // -- too large: [http], [limits]. 3402 is an answer that is too large, not a request.
    // The operations may have been carried out.
    row(Status::Is(413), Sub::Is(3402), For::OneOf(&[Bulk]),
        (Kind::TooLarge, Halve, Everybody, Unknown), "", (413, 3402, Bulk)),
    row(Status::Is(413), Sub::Any, For::OneOf(&[Bulk]),
        (Kind::TooLarge, Halve, Everybody, Refused), "", (413, 0, Bulk)),
    row(Status::Is(413), Sub::Is(3402), For::OneOf(&[Feed, VersionsFromNow, VersionsBehind, Query]),
        (Kind::Transient, Halve, Everybody, Refused), "", (413, 3402, Feed)),
    row(Status::Is(413), Sub::Is(3402), For::All,
        (Kind::Transient, Retry, Everybody, Unknown), "", (413, 3402, Upsert)),
    row(Status::Is(413), Sub::Any, For::OneOf(&[Batch]),
        (Kind::TooLarge, Compare, Record, Refused), "make the batch smaller, or what its patches add to; the service takes 2 MiB of it and of a document", (413, 0, Batch)),
    row(Status::Is(413), Sub::Any, For::Writes,
        (Kind::TooLarge, End, Record, Refused), "make the document smaller; the service takes 2 MiB", (413, 0, Create)),

    // -- conflicts: [http]. 409 of an upsert or a replace is a unique key, whatever its ETag; 412 an ETag.
    row(Status::Is(409), Sub::Any, For::Writes,
        (Kind::Conflict, End, Record, Refused), "", (409, 0, Upsert)),
    row(Status::Is(412), Sub::Any, For::Writes,
        (Kind::Precondition, End, Record, Refused), "", (412, 0, Delete)),

    // -- what passes: [http], [sdk]
    row(Status::Is(449), Sub::Any, For::All,
        (Kind::Transient, Retry, Everybody, Refused), "", (449, 0, Create)),
    row(Status::OneOf(&[408, 499]), Sub::Any, For::All,
        (Kind::Transient, Retry, Everybody, Unknown), "", (408, 0, Bulk)),
    // [driver]: no connection, no address; and 404/1002, 403/3 and 403/1008, as it calls them once it has given up.
    row(Status::Is(503), Sub::OneOf(&[20010, 20012, 20310, 20311, 20312]), For::All,
        (Kind::Transient, Retry, Everybody, Refused), "", (503, 20010, Create)),

    // -- a bulk request that is not understood: one document may spoil it, or the server does not take the form
    row(Status::Is(501), Sub::Any, For::OneOf(&[Bulk]),
        (Kind::BadRequest, Halve, Everybody, Refused), "", (501, 0, Bulk)),
    row(Status::Is(501), Sub::Any, For::All,
        (Kind::BadRequest, End, Everybody, Refused), "the server does not implement this", (501, 0, Feed)),
    row(Status::From(500, 599), Sub::Any, For::All,
        (Kind::Transient, Retry, Everybody, Unknown), "", (503, 0, Upsert)),
    row(Status::From(400, 499), Sub::Any, For::OneOf(&[Bulk]),
        (Kind::BadRequest, Halve, Everybody, Refused), "", (400, 0, Bulk)),
    // [http]: a document or a key that the service, or the driver before it, cannot take. Everything else may be the matter of a
    // proxy, a gateway or the driver, and would take every record with it.
    // Of a batch it may be a patch that finds nothing to take out at its second time.
    row(Status::Is(400), Sub::Below(DRIVERS_OWN), For::OneOf(&[Batch]),
        (Kind::BadRequest, Compare, Record, Refused), "", (400, 0, Batch)),
    row(Status::Is(400), Sub::Below(DRIVERS_OWN), For::Writes,
        (Kind::BadRequest, End, Record, Refused), "", (400, 1001, Replace)),
    row(Status::Is(400), Sub::OneOf(&[20021, 20100, 20101, 20102, 20103, 20127]), For::Writes,
        (Kind::BadRequest, End, Record, Refused), "", (400, 20101, Upsert)),
    // An operation behind a culprit, where a server stops at the first failure: it was not tried.
    row(Status::Is(424), Sub::Any, For::Writes,
        (Kind::Transient, Retry, Everybody, Refused), "", (424, 0, Upsert)),
    row(Status::From(400, 499), Sub::Any, For::All,
        (Kind::BadRequest, End, Everybody, Refused), "", (400, 0, Feed)),
];

/// What no row knows: no status of HTTP's errors.
const UNHEARD_OF: Verdict = Verdict {
    kind: Kind::Internal,
    next: End,
    blame: Everybody,
    fate: Unknown,
    advice: "",
};

impl Row {
    fn fits(&self, status: u16, sub_status: u32, asked: Asked, before: Fate) -> bool {
        let status = match self.status {
            Status::Is(n) => n == status,
            Status::OneOf(list) => list.contains(&status),
            Status::From(low, high) => (low..=high).contains(&status),
        };
        let sub = match self.sub {
            Sub::Any => true,
            Sub::Is(n) => n == sub_status,
            Sub::OneOf(list) => list.contains(&sub_status),
            Sub::Below(n) => sub_status < n,
        };
        let asked = match self.asked {
            For::All => true,
            For::Writes => asked.is_write(),
            For::OneOf(list) => list.contains(&asked),
        };
        status && sub && asked && (!self.after_unknown || before == Unknown)
    }
}

/// Whether it is the service that refuses the credential; the driver's own 401 say that there was none to show.
pub fn is_credential_refused(status: u16, sub_status: u32) -> bool {
    status == 401 && sub_status < DRIVERS_OWN
}

/// Whether the driver says that it could not read the partitions of a container, and keeps to itself why: it may be throttling.
pub fn hides_its_cause(sub_status: u32) -> bool {
    // [driver]: `CLIENT_TOPOLOGY_RESOLUTION_FAILED`
    sub_status == 20305
}

/// What an answer of the service means.
///
/// `before` is the worst fate of the earlier attempts of the same operation, the driver's own among them: only after an attempt that
/// may have been carried out can an answer be the echo of one's own success.
pub fn judge(status: u16, sub_status: u32, asked: Asked, before: Fate) -> Verdict {
    TABLE
        .iter()
        .find(|row| row.fits(status, sub_status, asked, before))
        .map_or(UNHEARD_OF, |row| row.verdict)
}

/// Whether the change feed has nothing new (304). An empty page with another status only means that there was nothing on this stretch.
/// Source: <https://learn.microsoft.com/rest/api/cosmos-db/list-documents>, incremental feed.
pub fn nothing_new(status: u16) -> bool {
    status == 304
}

/// The verdict on a failure that no answer of the service came with: a time-out of our own, a refused input, a bug.
pub fn of_kind(kind: Kind) -> Verdict {
    let (next, blame, fate) = match kind {
        Kind::Throttled => (Wait, Everybody, Refused),
        Kind::Transient => (Retry, Everybody, Unknown),
        Kind::BadRequest | Kind::Conflict | Kind::Precondition | Kind::TooLarge => (End, Record, Refused),
        Kind::Config | Kind::Auth | Kind::NotFound | Kind::Closed | Kind::State => (End, Everybody, Refused),
        Kind::Internal => (End, Everybody, Unknown),
    };
    Verdict {
        kind,
        next,
        blame,
        fate,
        advice: "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Asked; 20] = [
        Metadata,
        Feed,
        VersionsFromNow,
        VersionsBehind,
        Bulk,
        Upsert,
        Create,
        CreateIgnoreExisting,
        Replace,
        ReplaceIfExists,
        ReplaceIfNotModified,
        Delete,
        DeleteIfNotModified,
        Patch,
        PatchIfExists,
        Update,
        Read,
        Batch,
        Manage,
        Query,
    ];

    fn now(status: u16, sub: u32, asked: Asked) -> (Kind, Next, Blame, Fate) {
        let v = judge(status, sub, asked, Refused);
        (v.kind, v.next, v.blame, v.fate)
    }

    #[test]
    fn every_row_decides_its_own_example() {
        for (n, row) in TABLE.iter().enumerate() {
            let (status, sub, asked) = row.example;
            let before = if row.after_unknown { Unknown } else { Refused };
            let first = TABLE.iter().position(|r| r.fits(status, sub, asked, before));
            assert_eq!(
                first,
                Some(n),
                "{status}/{sub} of {asked:?} is decided by another row"
            );
            assert_eq!(judge(status, sub, asked, before), row.verdict);
        }
    }

    /// One line for each row, written out again by hand from the documentation.
    #[test]
    fn answers_mean_what_the_documentation_says() {
        let expected = [
            (429, 3200, Feed, (Kind::Throttled, Wait, Everybody, Refused)),
            (429, 3092, Bulk, (Kind::Throttled, Wait, Everybody, Refused)),
            (429, 0, Metadata, (Kind::Throttled, Wait, Everybody, Refused)),
            (400, 1024, Feed, (Kind::State, End, Everybody, Refused)),
            (400, 1024, Bulk, (Kind::Transient, End, Everybody, Refused)),
            (410, 1000, Feed, (Kind::State, End, Everybody, Refused)),
            (410, 1000, Create, (Kind::Transient, End, Everybody, Refused)),
            (410, 1002, Feed, (Kind::Transient, Retry, Everybody, Refused)),
            (400, 1024, Query, (Kind::Transient, End, Everybody, Refused)),
            (410, 1000, Query, (Kind::Transient, End, Everybody, Refused)),
            (410, 1002, Query, (Kind::Transient, Retry, Everybody, Refused)),
            (413, 3402, Query, (Kind::Transient, Halve, Everybody, Refused)),
            (410, 1007, Bulk, (Kind::Transient, Reroute, Everybody, Refused)),
            (410, 0, Upsert, (Kind::Transient, Reroute, Everybody, Refused)),
            (401, 20401, Bulk, (Kind::Transient, Retry, Everybody, Refused)),
            (401, 20402, Bulk, (Kind::Transient, Retry, Everybody, Refused)),
            (401, 0, Bulk, (Kind::Auth, End, Everybody, Refused)),
            (403, 3, Bulk, (Kind::Transient, Retry, Everybody, Refused)),
            (403, 1008, Metadata, (Kind::Transient, Retry, Everybody, Refused)),
            (403, 1014, Upsert, (Kind::BadRequest, End, Record, Refused)),
            (403, 1014, Bulk, (Kind::BadRequest, Halve, Everybody, Refused)),
            (403, 0, Bulk, (Kind::Auth, End, Everybody, Refused)),
            (403, 5301, Upsert, (Kind::Auth, End, Everybody, Refused)),
            (404, 1002, Feed, (Kind::Transient, Retry, Everybody, Refused)),
            (404, 1013, Bulk, (Kind::Transient, Retry, Everybody, Refused)),
            (404, 0, Upsert, (Kind::NotFound, Retry, Everybody, Refused)),
            (404, 0, Create, (Kind::NotFound, Retry, Everybody, Refused)),
            (404, 0, Replace, (Kind::NotFound, End, Record, Refused)),
            (404, 0, Delete, (Kind::NotFound, Done, Record, Refused)),
            (404, 1003, Replace, (Kind::NotFound, End, Everybody, Refused)),
            (404, 1003, Delete, (Kind::NotFound, End, Everybody, Refused)),
            (404, 1003, Bulk, (Kind::NotFound, End, Everybody, Refused)),
            (404, 0, Metadata, (Kind::NotFound, End, Everybody, Refused)),
            (400, 20203, Feed, (Kind::State, End, Everybody, Refused)),
            (400, 0, VersionsFromNow, (Kind::Config, End, Everybody, Refused)),
            (400, 0, VersionsBehind, (Kind::State, End, Everybody, Refused)),
            (
                400,
                20153,
                VersionsBehind,
                (Kind::BadRequest, End, Everybody, Refused),
            ),
            (
                410,
                1002,
                VersionsBehind,
                (Kind::Transient, Retry, Everybody, Refused),
            ),
            (410, 1000, VersionsFromNow, (Kind::State, End, Everybody, Refused)),
            (
                413,
                3402,
                VersionsBehind,
                (Kind::Transient, Halve, Everybody, Refused),
            ),
            (413, 0, Bulk, (Kind::TooLarge, Halve, Everybody, Refused)),
            (413, 3402, Bulk, (Kind::TooLarge, Halve, Everybody, Unknown)),
            (413, 3402, Feed, (Kind::Transient, Halve, Everybody, Refused)),
            (413, 3402, Replace, (Kind::Transient, Retry, Everybody, Unknown)),
            (413, 0, Upsert, (Kind::TooLarge, End, Record, Refused)),
            (409, 0, Create, (Kind::Conflict, Compare, Record, Refused)),
            (409, 0, Replace, (Kind::Conflict, End, Record, Refused)),
            (412, 0, Replace, (Kind::Precondition, Compare, Record, Refused)),
            (412, 0, Delete, (Kind::Precondition, End, Record, Refused)),
            (449, 0, Create, (Kind::Transient, Retry, Everybody, Refused)),
            (408, 0, Create, (Kind::Transient, Retry, Everybody, Unknown)),
            (408, 20008, Feed, (Kind::Transient, Retry, Everybody, Unknown)),
            (503, 20010, Bulk, (Kind::Transient, Retry, Everybody, Refused)),
            (503, 20011, Bulk, (Kind::Transient, Retry, Everybody, Unknown)),
            (500, 0, Upsert, (Kind::Transient, Retry, Everybody, Unknown)),
            (503, 20311, Upsert, (Kind::Transient, Retry, Everybody, Refused)),
            (400, 20153, Upsert, (Kind::BadRequest, End, Everybody, Refused)),
            (400, 20101, Upsert, (Kind::BadRequest, End, Record, Refused)),
            (407, 0, Upsert, (Kind::BadRequest, End, Everybody, Refused)),
            (423, 0, Replace, (Kind::BadRequest, End, Everybody, Refused)),
            (424, 0, Create, (Kind::Transient, Retry, Everybody, Refused)),
            (501, 0, Bulk, (Kind::BadRequest, Halve, Everybody, Refused)),
            (501, 0, Upsert, (Kind::BadRequest, End, Everybody, Refused)),
            (400, 0, Bulk, (Kind::BadRequest, Halve, Everybody, Refused)),
            (400, 0, Upsert, (Kind::BadRequest, End, Record, Refused)),
            (400, 0, Feed, (Kind::BadRequest, End, Everybody, Refused)),
            (302, 0, Feed, (Kind::Internal, End, Everybody, Unknown)),
        ];
        for (status, sub, asked, verdict) in expected {
            assert_eq!(now(status, sub, asked), verdict, "{status}/{sub} of {asked:?}");
        }
    }

    /// No conflict counts as success for an earlier attempt's sake alone: somebody else may have written the document.
    #[test]
    fn an_attempt_of_unknown_fate_makes_no_conflict_a_success() {
        for (status, asked, first, then) in [
            (409, Create, Compare, Compare),
            (412, Replace, Compare, Compare),
            (404, Batch, Compare, Compare),
            (409, Batch, Compare, Compare),
            (400, Batch, Compare, Compare),
            (413, Batch, Compare, Compare),
            (412, ReplaceIfExists, Compare, Compare),
            (412, Upsert, Compare, Compare),
            (409, CreateIgnoreExisting, Confirm, Confirm),
            (412, ReplaceIfNotModified, Superseded, Confirm),
            (412, DeleteIfNotModified, Superseded, Superseded),
            (412, Patch, Superseded, Superseded),
            (412, PatchIfExists, Superseded, Superseded),
            // What it wanted is so.
            (404, DeleteIfNotModified, Superseded, Done),
        ] {
            for (before, next) in [(Refused, first), (Unknown, then)] {
                let found = judge(status, 0, asked, before).next;
                assert_eq!(found, next, "{status} of {asked:?} after {before:?}");
            }
        }
        // Never the echo of one's own success.
        for (status, asked) in [
            (409, Upsert),
            (409, Replace),
            (409, ReplaceIfNotModified),
            (412, Delete),
            (404, Replace),
            (404, Patch),
            (400, Patch),
        ] {
            assert_eq!(
                judge(status, 0, asked, Unknown).next,
                End,
                "{status} of {asked:?}"
            );
        }
    }

    /// docs/writing.md has this table: what each strategy makes of an answer that its own earlier write may have led to.
    #[test]
    fn a_strategy_decides_what_an_answer_means() {
        let table = [
            // asked, 404, 409, 412
            (Upsert, [Retry, End, Compare]),
            (Create, [Retry, Compare, End]),
            (CreateIgnoreExisting, [Retry, Confirm, End]),
            (Replace, [End, End, Compare]),
            (ReplaceIfExists, [Superseded, End, Compare]),
            (ReplaceIfNotModified, [Superseded, End, Superseded]),
            (Delete, [Done, End, End]),
            (DeleteIfNotModified, [Superseded, End, Superseded]),
            (Patch, [End, End, Superseded]),
            (PatchIfExists, [Superseded, End, Superseded]),
            (Update, [Reread, Reread, Reread]),
            (Read, [End, End, End]),
            (Batch, [Compare, Compare, Compare]),
        ];
        for (asked, expected) in table {
            let found = [404, 409, 412].map(|status| judge(status, 0, asked, Refused).next);
            assert_eq!(found, expected, "{asked:?}");
        }
        assert!(ALL
            .iter()
            .all(|a| a.is_write() == table.iter().any(|(asked, _)| asked == a)));
    }

    #[test]
    fn only_failures_of_one_record_may_drop_it() {
        for asked in ALL {
            let of_records = [400, 403, 404, 409, 412, 413];
            for status in (300..600).filter(|s| !of_records.contains(s)) {
                for sub in [0, 1, 1003, 1024, 5000, 20007, 20153] {
                    let blame = judge(status, sub, asked, Unknown).blame;
                    assert_eq!(blame, Everybody, "{status}/{sub} of {asked:?}");
                }
            }
            for (status, sub) in [
                (400, 1024),
                (400, 20153),
                (403, 0),
                (403, 3),
                (404, 1002),
                (404, 1003),
            ] {
                let blame = judge(status, sub, asked, Unknown).blame;
                assert_eq!(blame, Everybody, "{status}/{sub} of {asked:?}");
            }
            for status in 400..600 {
                let v = judge(status, 0, asked, Refused);
                assert!(asked.is_write() || v.blame == Everybody, "{status} of {asked:?}");
                assert_ne!((v.next, asked.is_write()), (Halve, true), "{status} of {asked:?}");
            }
        }
    }

    #[test]
    fn failures_without_an_answer_follow_their_kind() {
        assert_eq!(of_kind(Kind::Transient).next, Retry);
        assert_eq!(of_kind(Kind::Throttled).next, Wait);
        for kind in [
            Kind::Auth,
            Kind::Closed,
            Kind::Internal,
            Kind::NotFound,
            Kind::State,
        ] {
            assert_eq!(
                (of_kind(kind).next, of_kind(kind).blame),
                (End, Everybody),
                "{kind:?}"
            );
        }
        assert_eq!(of_kind(Kind::TooLarge).blame, Record);
    }
}
