//! The HTTP front: listening, signatures, routing to the emulator, and the feed and writes that need more than it.

use crate::admin;
use crate::answer::{outgoing, Outgoing};
use crate::bulk;
use crate::container::{parse_ranges, Container, Range, Scope, Start, PAGE_BYTES};
use crate::definitions;
use crate::emulator::{Answer, Emulator, Reply};
use crate::faults::{Counts, Faults, Kind, Strike, Target};
use crate::gateway_v2;
use crate::history::{self, AllVersions, MetadataKey};
use crate::key::AccountKey;
use crate::listener::Front;
use crate::offers;
use crate::patch::{self, Batch, Patch, Scratch};
use crate::query;
use crate::recreate;
use crate::regions::{local_host, Regions, Role};
use crate::requests::{operations, Asked, Entry, Requests};
use crate::sql::single_quoted;
use crate::tls::Tls;
use crate::ttl::{self, Clock, Ttl};
use azure_core::http::headers::{HeaderName, HeaderValue};
use azure_core::http::{Method, Request};
use azure_data_cosmos_driver::in_memory_emulator::{ContainerConfig, Epk};
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// No request may be longer. The service's own limits are lower, and answered with its own errors.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// `x-ms-substatus` of a change feed request on a range that was split or merged away.
const RANGE_GONE: u32 = 1002;
/// Marks a continuation of the mode AllVersionsAndDeletes: those of one mode are none of the other.
const VERSIONS: &str = "av";

/// A container to create at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The database; the configuration's first one if `None`.
    pub database: Option<String>,
    pub name: String,
    /// One to three paths of the partition key, each with its leading slash.
    pub partition_key: Vec<String>,
    /// Physical partitions, at least 1.
    pub partitions: u32,
    /// Provisioned throughput of the container in RU/s, shared evenly by its partitions, at least 400.
    pub request_units: Option<u64>,
}

impl std::str::FromStr for ContainerSpec {
    type Err = String;

    /// Reads `[DATABASE/]NAME:/path[,/path..][:PARTITIONS[:RU]]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected [DATABASE/]NAME:/path[,/path..][:PARTITIONS[:RU]]";
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let (database, name) = match name.split_once('/') {
            Some((database, name)) => (Some(database.to_owned()), name),
            None => (None, name),
        };
        let paths = parts
            .next()
            .ok_or_else(|| format!("'{text}' has no partition key path; {form}"))?;
        let partition_key: Vec<String> = paths.split(',').map(str::to_owned).collect();
        let partitions = parts.next().map_or(Ok(4), |n| {
            n.parse()
                .map_err(|_| format!("'{n}' in '{text}' is no number of partitions; {form}"))
        })?;
        let request_units = parts
            .next()
            .map(|n| {
                n.parse()
                    .map_err(|_| format!("'{n}' in '{text}' is no number of RU/s; {form}"))
            })
            .transpose()?;
        if name.is_empty() || database.as_deref() == Some("") || parts.next().is_some() {
            return Err(format!("'{text}' is not a container; {form}"));
        }
        if partition_key.len() > 3
            || partition_key
                .iter()
                .any(|path| !path.starts_with('/') || path.len() < 2)
        {
            return Err(format!(
                "'{paths}' in '{text}' is not one to three paths such as /region; {form}"
            ));
        }
        Ok(Self {
            database,
            name: name.to_owned(),
            partition_key,
            partitions,
            request_units,
        })
    }
}

/// How a server is set up.
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    pub key: AccountKey,
    /// Databases to create. Containers without a database of their own go into the first.
    pub databases: Vec<String>,
    pub containers: Vec<ContainerSpec>,
    /// Enforce the RU budgets with 429s.
    pub throttling: bool,
    /// Seed of the faults' chance.
    pub seed: u64,
    /// Answer admin requests of other machines too.
    pub admin_open: bool,
    /// Serve https, with a certificate of the server's own; plain http if `None`.
    pub tls: Option<Tls>,
    /// Names of the account's regions, each with an endpoint of its own; the first takes writes. With none, there is
    /// one region behind the account's endpoint. Ports follow `listen`'s, or are free ones where that is 0.
    pub regions: Vec<String>,
    /// Advertise a Gateway 2.0 for each region. It loses headers that it does not know, as the service's does.
    pub gateway_v2: bool,
    /// Keep history, and serve the change feed mode AllVersionsAndDeletes, as an account with continuous backup does;
    /// refused if `None`.
    pub all_versions: Option<AllVersions>,
    /// Answer bulk requests as if each operation had been carried out, and store nothing of them: for measuring clients, to which the server
    /// is then no limit.
    pub wire_speed: bool,
}

impl Config {
    /// A server on a free port of loopback, without TLS, throttling, databases or containers.
    pub fn new(key: AccountKey) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            key,
            databases: Vec::new(),
            containers: Vec::new(),
            throttling: false,
            seed: 0,
            admin_open: false,
            tls: None,
            regions: Vec::new(),
            gateway_v2: false,
            all_versions: None,
            wire_speed: false,
        }
    }
}

/// A running server. Dropping it stops it without waiting for open requests.
pub struct Server {
    address: SocketAddr,
    ca_pem: Option<String>,
    inner: Arc<Inner>,
    stop: watch::Sender<bool>,
    /// One task for each listener. Dropping the set ends them.
    accepting: JoinSet<()>,
}

impl Server {
    /// Creates the databases and containers, then starts to listen. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Says which container cannot be created, or why the address cannot be listened on.
    pub async fn start(config: Config) -> Result<Self, String> {
        let emulator = Emulator::new(config.throttling)?;
        create_declared(&emulator, &config)?;
        let identity = config.tls.as_ref().map(Tls::identity).transpose()?;
        let (acceptor, ca_pem) = identity.map(|tls| (tls.acceptor, tls.ca_pem)).unzip();
        let front = Front::bind(config.listen, Role::Account, acceptor.clone()).await?;
        let address = front.address;
        let mut ports = (1..).map(|n| match config.listen.port() {
            0 => 0,
            port => port.saturating_add(n),
        });
        let mut next = |role| {
            let address = SocketAddr::new(config.listen.ip(), ports.next().unwrap_or_default());
            Front::bind(address, role, acceptor.clone())
        };
        let scheme = if ca_pem.is_some() { "https" } else { "http" };
        let (mut regions, mut fronts, mut switched) = (Regions::new(scheme), vec![front], Vec::new());
        for n in 0..config.regions.len().max(1) {
            let region = match config.regions.get(n) {
                Some(name) => Some((name, next(Role::Region(n)).await?)),
                None => None,
            };
            let gateway = match config.gateway_v2 {
                true => Some(next(Role::GatewayV2(n)).await?),
                false => None,
            };
            let gateway_address = gateway.as_ref().map(|front| front.address);
            fronts.extend(gateway);
            match region {
                Some((name, front)) => {
                    let switch = regions.add(name, front.address, gateway_address)?;
                    switched.push((front, switch));
                }
                None => regions.add_only(gateway_address),
            }
        }
        let (stop, stopped) = watch::channel(false);
        let inner = Arc::new(Inner {
            emulator,
            requests: Requests::new(),
            stopped: stopped.clone(),
            scratch: Scratch::new()?,
            faults: Faults::new(config.seed),
            counts: Counts::default(),
            key: config.key,
            admin_open: config.admin_open,
            regions,
            page_bytes: AtomicUsize::new(PAGE_BYTES),
            previous_images: AtomicBool::new(config.all_versions.as_ref().is_some_and(|a| a.previous_images)),
            key_as_object: AtomicBool::new(
                config
                    .all_versions
                    .as_ref()
                    .is_some_and(|a| a.metadata_key == MetadataKey::Object),
            ),
            retention_bytes: config.all_versions.as_ref().map(|a| a.retention_bytes),
            clock: Arc::default(),
            wire_speed: config.wire_speed,
            emptied: AtomicU64::new(0),
            containers: Mutex::default(),
        });
        let mut accepting = JoinSet::new();
        for front in fronts {
            accepting.spawn(front.accept(Arc::clone(&inner), stopped.clone()));
        }
        for (front, switch) in switched {
            accepting.spawn(front.accept_while_up(switch, Arc::clone(&inner), stopped.clone()));
        }
        Ok(Self {
            address,
            ca_pem,
            inner,
            stop,
            accepting,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account endpoint for clients on this machine: `https://` with [`Config::tls`], `http://` without.
    pub fn endpoint(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}/", local_host(self.address), self.address.port())
    }

    /// The name and the endpoint of each region of [`Config::regions`].
    pub fn regions(&self) -> Vec<(String, String)> {
        self.inner.regions.endpoints()
    }

    /// The certificate of the authority that signed the server's, as PEM, for clients that shall trust it; `None`
    /// without TLS. Each start makes a new one.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Stops listening, gives open requests two seconds, and ends.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        // An error would be a panic of an accept task, which has been reported already.
        while self.accepting.join_next().await.is_some() {}
    }
}

fn create_declared(emulator: &Emulator, config: &Config) -> Result<(), String> {
    let store = emulator.store();
    let mut databases: Vec<&str> = config.databases.iter().map(String::as_str).collect();
    let default = databases.first().copied();
    let mut seen = std::collections::HashSet::new();
    for spec in &config.containers {
        let database = spec.database.as_deref().or(default).ok_or_else(|| {
            format!(
                "container '{}' needs a database: declare one, or write DATABASE/{0}",
                spec.name
            )
        })?;
        if !databases.contains(&database) {
            databases.push(database);
        }
    }
    for database in &databases {
        if seen.insert((*database, "")) {
            store.create_database(database);
        }
    }
    for spec in &config.containers {
        let database = spec.database.as_deref().or(default).unwrap_or_default();
        if !seen.insert((database, &spec.name)) {
            return Err(format!(
                "container '{}' of database '{database}' is declared twice",
                spec.name
            ));
        }
        let mut settings = ContainerConfig::new().with_partition_count(spec.partitions);
        if let Some(units) = spec.request_units {
            settings = settings.with_throughput(units);
        }
        let settings = settings
            .build()
            .map_err(|e| format!("container '{}': {e}", spec.name))?;
        let key = PartitionKeyDefinition::new(spec.partition_key.iter().cloned().map(Cow::from).collect());
        store.create_container_with_config(database, &spec.name, key, settings);
    }
    Ok(())
}

/// Why a request gets no answer: a fault asked for a dropped connection.
#[derive(Debug)]
pub(crate) struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was dropped on request")
    }
}

impl std::error::Error for Dropped {}

/// What all connections share.
pub(crate) struct Inner {
    pub emulator: Emulator,
    pub scratch: Scratch,
    pub faults: Faults,
    pub counts: Counts,
    pub requests: Requests,
    /// True once the server stops, for requests that wait.
    stopped: watch::Receiver<bool>,
    key: AccountKey,
    admin_open: bool,
    pub regions: Regions,
    /// A page of the change feed ends once it has so many bytes.
    pub page_bytes: AtomicUsize,
    /// Pages of history carry the document as it was before.
    pub previous_images: AtomicBool,
    /// The partition key in the metadata of history is an object.
    pub key_as_object: AtomicBool,
    /// History that a partition keeps; none where the account keeps none.
    retention_bytes: Option<usize>,
    pub clock: Arc<Clock>,
    /// Bulk requests are answered and not carried out.
    pub wire_speed: bool,
    /// Pages that were empty on request.
    emptied: AtomicU64,
    containers: Mutex<HashMap<(String, String), Arc<Container>>>,
}

/// A request, read to its end.
struct Call {
    method: hyper::Method,
    headers: HeaderMap,
    /// Decoded path segments.
    path: Vec<String>,
    query: Option<String>,
    /// The authority the client used, for the account's address.
    authority: Option<String>,
    http2: bool,
    /// The endpoint that it was sent to.
    role: Role,
    arrived: Instant,
    /// A fault asks for an empty page of the change feed.
    empty_page: bool,
    /// The same, that leaves the position where it is.
    still_page: bool,
    body: Bytes,
}

/// A header's value as text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn flag(headers: &HeaderMap, name: &str) -> bool {
    header(headers, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Whether the client wants the written document back.
pub(crate) fn wants_content(headers: &HeaderMap) -> bool {
    match header(headers, "x-ms-cosmos-populate-content-response-on-write") {
        Some(value) => value.eq_ignore_ascii_case("true"),
        None => !header(headers, "prefer").is_some_and(|value| value.contains("return=minimal")),
    }
}

impl Call {
    fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// The database and container the request is about.
    fn container(&self) -> Option<(&str, &str)> {
        match self.segments().as_slice() {
            ["dbs", db, "colls", coll, ..] => Some((db, coll)),
            _ => None,
        }
    }

    fn kind(&self) -> Kind {
        let is = |name| flag(&self.headers, name);
        match (self.method.as_str(), self.segments().as_slice()) {
            ("GET", []) => Kind::Account,
            (_, ["dbs"] | ["dbs", _]) => Kind::Database,
            (_, ["dbs", _, "colls"] | ["dbs", _, "colls", _]) => Kind::Container,
            ("GET", ["dbs", _, "colls", _, "pkranges"]) => Kind::PkRanges,
            (_, ["offers", ..]) => Kind::Offer,
            ("GET", ["dbs", _, "colls", _, "docs"]) if self.headers.contains_key("a-im") => Kind::ChangeFeed,
            ("GET", ["dbs", _, "colls", _, "docs"]) => Kind::ReadFeed,
            ("POST", ["dbs", _, "colls", _, "docs"]) => {
                if is("x-ms-cosmos-is-query-plan-request") {
                    Kind::QueryPlan
                } else if is("x-ms-documentdb-isquery") || is("x-ms-documentdb-query") {
                    Kind::Query
                } else if is("x-ms-cosmos-is-batch-request") {
                    let atomic = header(&self.headers, "x-ms-cosmos-batch-atomic");
                    if atomic.is_some_and(|value| value.eq_ignore_ascii_case("false")) {
                        Kind::Bulk
                    } else {
                        Kind::Batch
                    }
                } else if is("x-ms-documentdb-is-upsert") {
                    Kind::Upsert
                } else {
                    Kind::Create
                }
            }
            (method, ["dbs", _, "colls", _, "docs", _]) => match method {
                "GET" => Kind::Read,
                "PUT" => Kind::Replace,
                "PATCH" => Kind::Patch,
                "DELETE" => Kind::Delete,
                _ => Kind::Other,
            },
            _ => Kind::Other,
        }
    }
}

impl Inner {
    pub async fn serve(
        self: Arc<Self>,
        peer: SocketAddr,
        role: Role,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<Outgoing>, Dropped> {
        let arrived = Instant::now();
        let (parts, body) = request.into_parts();
        let (reply, cut) = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) if matches!(role, Role::GatewayV2(_)) => {
                let reply = gateway_v2::answer(&self, role, arrived, parts, body.to_bytes()).await?;
                (reply, None)
            }
            Ok(body) => self.answer(peer, role, arrived, parts, body.to_bytes()).await?,
            Err(error) => {
                let message = format!("The request cannot be read to its end: {error}");
                (Reply::error(413, 0, &message), None)
            }
        };
        let mut response = hyper::Response::new(outgoing(reply.body, cut));
        *response.status_mut() =
            hyper::StatusCode::from_u16(reply.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        *headers = reply.headers;
        headers
            .entry("content-type")
            .or_insert(hyper::header::HeaderValue::from_static("application/json"));
        headers
            .entry("x-ms-version")
            .or_insert(hyper::header::HeaderValue::from_static("2020-07-15"));
        Ok(response)
    }

    /// The answer to a request, and after how many bytes of its body the connection is to end, if it is.
    async fn answer(
        &self,
        peer: SocketAddr,
        role: Role,
        arrived: Instant,
        parts: hyper::http::request::Parts,
        body: Bytes,
    ) -> Result<(Reply, Option<usize>), Dropped> {
        let path = parts.uri.path();
        if let Some(action) = path.strip_prefix("/_local/") {
            let reply = if self.admin_open || peer.ip().to_canonical().is_loopback() {
                admin::answer(self, &parts.method, action, parts.uri.query(), &body).await
            } else {
                Reply::error(
                    403,
                    0,
                    "Admin requests are answered to this machine only (see --admin-open).",
                )
            };
            return Ok((reply, None));
        }
        let date = header(&parts.headers, "x-ms-date").or(header(&parts.headers, "date"));
        let signed = self.key.verify(
            parts.method.as_str(),
            path,
            date,
            header(&parts.headers, "authorization"),
        );
        let mut call = Call {
            path: path
                .split('/')
                .filter(|segment| !segment.is_empty())
                .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
                .collect(),
            query: parts.uri.query().map(str::to_owned),
            authority: match parts.uri.authority() {
                Some(authority) => Some(authority.as_str().to_owned()),
                None => header(&parts.headers, "host").map(str::to_owned),
            },
            http2: parts.version == hyper::Version::HTTP_2,
            role,
            arrived,
            empty_page: false,
            still_page: false,
            method: parts.method,
            headers: parts.headers,
            body,
        };
        let kind = call.kind();
        let mut strike = Strike::default();
        let mut reply = None;
        if let Err(reason) = signed {
            reply = Some(Reply::error(401, 0, &reason));
        } else {
            self.resolve_rids(&mut call).await;
            self.spell_out_empty_key(&mut call).await;
            if self.faults.active() {
                strike = self.struck(kind, &call).await.unwrap_or_default();
            }
            if !strike.delay.is_zero() {
                tokio::time::sleep(strike.delay).await;
            }
            if strike.refuse || strike.hang && !strike.after {
                return self.unanswered(kind, &call, &strike).await;
            }
            if !strike.after {
                reply = strike.reply();
            }
            (call.empty_page, call.still_page) = (strike.empty_page, strike.still_page);
            if reply.is_none() {
                let reads =
                    call.method == hyper::Method::GET || flag(&call.headers, "x-ms-documentdb-isquery");
                let partition = match (self.regions.look_at_partitions(), call.container()) {
                    (true, Some((_, coll))) => {
                        let coll = coll.to_owned();
                        self.partition_of(&call).await.map(|id| (coll, id))
                    }
                    _ => None,
                };
                reply = self.regions.refuse(role, kind, reads, partition);
            }
        }
        let mut reply = match reply {
            Some(reply) => reply,
            None => self.dispatch(kind, &call).await,
        };
        if strike.after {
            if strike.hang {
                return self.unanswered(kind, &call, &strike).await;
            }
            reply = strike.reply().unwrap_or(reply);
        }
        if let Some(replace) = &strike.replace {
            reply.body = replace.apply(&reply.body).into();
        }
        if let Some(activity) = header(&call.headers, "x-ms-activity-id") {
            reply = reply.with("x-ms-activity-id", activity);
        }
        match call.segments().as_slice() {
            // The path by names of what owns the resource; a database has no owner.
            ["dbs", db, "colls", coll, _, ..] => {
                reply = reply.with("x-ms-alt-content-path", format!("dbs/{db}/colls/{coll}"));
            }
            ["dbs", db, _, ..] => reply = reply.with("x-ms-alt-content-path", format!("dbs/{db}")),
            ["dbs", ..] => reply = reply.with("x-ms-alt-content-path", ""),
            _ => {}
        }
        let charge = header(&reply.headers, "x-ms-request-charge").and_then(|v| v.parse().ok());
        self.counts
            .request(kind, reply.status, charge.unwrap_or_default());
        let cut = strike.cut.filter(|cut| *cut < reply.body.len());
        let lost = match cut {
            _ if strike.drop_response => Some("dropped"),
            Some(_) => Some("cut"),
            None => None,
        };
        self.note(kind, &call, Some(&reply), lost);
        if strike.drop_response {
            self.counts.with(|stats| stats.responses_dropped += 1);
            return Err(Dropped);
        }
        Ok((reply, cut))
    }

    /// The fault that strikes a request.
    async fn struck(&self, kind: Kind, call: &Call) -> Option<Strike> {
        let (by_partition, by_content) = self.faults.look_inside();
        let partition = match by_partition {
            true => self.partition_of(call).await,
            false => None,
        };
        let (documents, operations) = match by_content {
            true => (documents(kind, call), operations(kind, &call.body)),
            false => Default::default(),
        };
        let strike = self.faults.strike(&Target {
            kind,
            container: call.container().map(|(_, coll)| coll),
            region: Some(self.regions.name(call.role)),
            partition: partition.as_deref(),
            documents,
            operations,
            headers: Some(&call.headers),
            bytes: call.body.len(),
            operation: false,
        })?;
        self.counts.with(|stats| stats.faults_injected += 1);
        Some(strike)
    }

    /// The partition key range that a request goes to: by its id, by the partition key, or by the lower end of a range.
    async fn partition_of(&self, call: &Call) -> Option<String> {
        if let Some(id) = header(&call.headers, "x-ms-documentdb-partitionkeyrangeid") {
            return Some(id.rsplit(',').next().unwrap_or(id).to_owned());
        }
        let container = self.container(call).await?;
        let epk = match header(&call.headers, "x-ms-documentdb-partitionkey") {
            Some(key) => container.hash(key).ok()?.0,
            None => Epk::try_from(header(&call.headers, "x-ms-start-epk")?).ok()?,
        };
        let layout = container.layout.read().await;
        layout.holder(&epk).map(|range| range.id.clone())
    }

    /// Leaves a request without an answer: at once, or when the client or the server ends the connection.
    async fn unanswered(
        &self,
        kind: Kind,
        call: &Call,
        strike: &Strike,
    ) -> Result<(Reply, Option<usize>), Dropped> {
        self.counts.with(|stats| stats.unanswered += 1);
        let lost = if strike.hang { "hanging" } else { "refused" };
        self.note(kind, call, None, Some(lost));
        if strike.hang {
            self.until_stopped().await;
        }
        Err(Dropped)
    }

    /// Waits for the end of the server.
    pub async fn until_stopped(&self) {
        // An error means that the server is no more, which ends the wait just as well.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }

    /// Keeps a request for `GET /_local/requests`.
    fn note(&self, kind: Kind, call: &Call, reply: Option<&Reply>, lost: Option<&'static str>) {
        let of_reply = |name| reply.and_then(|reply| header(&reply.headers, name));
        let range = "x-ms-documentdb-partitionkeyrangeid";
        let items = of_reply("x-ms-item-count").and_then(|count| count.parse().ok());
        let many = matches!(kind, Kind::Bulk | Kind::Batch);
        let entry = Entry {
            kind: kind.name(),
            status: reply.map(|reply| reply.status),
            sub_status: of_reply("x-ms-substatus")
                .and_then(|code| code.parse().ok())
                .unwrap_or_default(),
            lost,
            region: match call.role {
                Role::Account => None,
                role => Some(self.regions.name(role).into()),
            },
            container: call.container().map(|(_, coll)| coll.into()),
            partition: header(&call.headers, range)
                .or(of_reply(range))
                .map(|id| id.rsplit(',').next().unwrap_or(id).into()),
            operations: match items {
                Some(items) if many => items,
                _ => operations(kind, &call.body),
            },
            documents: items.filter(|_| !many).unwrap_or_default(),
            bytes: call.body.len(),
            answer_bytes: reply.map_or(0, |reply| reply.body.len()),
            http: if call.http2 { "2" } else { "1.1" },
            ..Entry::default()
        };
        let asked = Asked {
            method: &call.method,
            path: &call.path,
            headers: &call.headers,
            body: &call.body,
        };
        self.requests.add(entry, call.arrived, &asked);
    }

    async fn dispatch(&self, kind: Kind, call: &Call) -> Reply {
        if call.path.len() > 4 && recreate::names_rid(&call.headers) {
            if let Some(container) = self.container(call).await {
                if let Some(refusal) = recreate::stale(&container.rid, &call.headers) {
                    return refusal;
                }
            }
        }
        if matches!(kind, Kind::Read | Kind::ReadFeed | Kind::Query | Kind::QueryPlan) {
            self.before_read(call).await;
        }
        match kind {
            Kind::Account => {
                let mut reply: Reply = self.pass(call).await.into();
                let authority = call.authority.as_deref().unwrap_or("localhost");
                if let Some(body) =
                    self.regions
                        .describe(&reply.body, authority, self.retention_bytes.is_some())
                {
                    reply.body = body;
                }
                reply
            }
            Kind::Database | Kind::Container if call.method == hyper::Method::DELETE => {
                self.delete(call).await
            }
            Kind::ChangeFeed => self.change_feed(call).await,
            Kind::Create | Kind::Upsert | Kind::Replace | Kind::Patch | Kind::Delete => {
                self.write(kind, call).await
            }
            Kind::Batch => self.batch(call).await,
            Kind::Bulk => match self.container(call).await {
                Some(container) => bulk::run(self, &container, &call.headers, &call.body).await,
                None => no_container(call),
            },
            Kind::Query | Kind::QueryPlan => self.query(kind, call).await,
            Kind::ReadFeed => {
                let mut request = self.inner_request(call);
                self.scope_prefix(call, &mut request).await;
                self.emulator.call(&request).await.into()
            }
            Kind::Offer => {
                let mut request = self.inner_request(call);
                if let Some(id) = call.path.get(1).and_then(|id| offers::inner_id(id)) {
                    *request.url_mut() = self.emulator.url(&["offers", &id]);
                }
                if let Some(body) = offers::inner_query(&call.body) {
                    request.set_body(body);
                }
                let mut reply: Reply = self.emulator.call(&request).await.into();
                if let Some(body) = offers::outer(&reply.body) {
                    reply.body = body;
                }
                reply
            }
            Kind::Database | Kind::Container if flag(&call.headers, "x-ms-documentdb-isquery") => {
                self.query(kind, call).await
            }
            Kind::Container if call.method != hyper::Method::GET => self.settings(call).await,
            Kind::Container if flag(&call.headers, "x-ms-documentdb-populatequotainfo") => {
                self.with_usage(call).await
            }
            Kind::Other => Reply::error(
                501,
                0,
                &format!("{} {} is not emulated.", call.method, call.path.join("/")),
            ),
            _ => self.pass(call).await.into(),
        }
    }

    /// The request in the emulator's terms.
    fn inner_request(&self, call: &Call) -> Request {
        let mut url = self.emulator.url(&call.path);
        url.set_query(call.query.as_deref());
        let method = match call.method.as_str() {
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "PATCH" => Method::Patch,
            "DELETE" => Method::Delete,
            "HEAD" => Method::Head,
            _ => Method::Get,
        };
        let mut request = Request::new(url, method);
        for (name, value) in &call.headers {
            let name = name.as_str();
            let used =
                name.starts_with("x-ms-") || name.starts_with("if-") || matches!(name, "a-im" | "prefer");
            // An empty continuation is what some clients send on their first page. A session token is not looked at:
            // there is one copy of the data, which has all that any session wrote. Java's SDK mixes up the tokens of
            // containers that have the same number in their databases.
            if let (true, Ok(value)) = (
                used && !(name == "x-ms-continuation" && value.is_empty()) && name != "x-ms-session-token",
                value.to_str(),
            ) {
                request.insert_header(
                    HeaderName::from(name.to_owned()),
                    HeaderValue::from(value.to_owned()),
                );
            }
        }
        request.set_body(call.body.clone());
        request
    }

    /// Lets the emulator answer.
    async fn pass(&self, call: &Call) -> Answer {
        self.emulator.call(&self.inner_request(call)).await
    }

    /// A query or its plan, in the form that the emulator knows.
    async fn query(&self, kind: Kind, call: &Call) -> Reply {
        let mut request = self.inner_request(call);
        let (mut plan, mut rewritten) = (None, None);
        if let Ok(mut spec) = serde_json::from_slice::<serde_json::Value>(&call.body) {
            if let Some(sql) = spec["query"].as_str() {
                let mut sql = single_quoted(sql).unwrap_or_else(|| sql.to_owned());
                if kind == Kind::QueryPlan {
                    match query::plan(&sql) {
                        Ok(planned) => {
                            sql.clone_from(&planned.sql);
                            plan = Some(planned);
                        }
                        Err((status, reason)) => return Reply::error(status, 0, &reason),
                    }
                } else if let Some(query) = query::rewrite(&sql) {
                    sql.clone_from(&query.sql);
                    rewritten = Some(query);
                }
                spec["query"] = sql.into();
                request.set_body(spec.to_string());
            }
        }
        if rewritten.is_some() {
            // The rows are put together from text.
            let formats = HeaderName::from_static("x-ms-cosmos-supported-serialization-formats");
            request.headers_mut().remove(formats);
        }
        if kind == Kind::Query {
            self.scope_prefix(call, &mut request).await;
        }
        let mut reply: Reply = self.emulator.call(&request).await.into();
        if reply.status == 400 && query::is_beyond_the_emulator(&reply.body) {
            let reason = String::from_utf8_lossy(&reply.body).into_owned();
            return Reply::error(
                501,
                0,
                &format!("The emulator cannot evaluate this query: {reason}"),
            );
        }
        if reply.status != 200 {
            return reply;
        }
        if let Some(body) = plan.and_then(|plan| plan.complete(&reply.body)) {
            reply.body = body;
        }
        if let Some((body, count)) = rewritten.and_then(|query| query.answer(&reply.body)) {
            reply.body = body;
            reply = reply.with("x-ms-item-count", count);
        }
        reply
    }

    /// Turns the first levels of a hierarchical key, which a read of many documents may name, into the range of hashed
    /// keys below them: the emulator reads the whole container otherwise.
    async fn scope_prefix(&self, call: &Call, request: &mut Request) {
        let Some(key) = header(&call.headers, "x-ms-documentdb-partitionkey") else {
            return;
        };
        let Some(container) = self.container(call).await else {
            return;
        };
        if let Ok((min, max, false)) = container.hash(key) {
            let headers = request.headers_mut();
            if headers
                .get_optional_str(&HeaderName::from_static("x-ms-start-epk"))
                .is_none()
            {
                headers.insert("x-ms-start-epk", min.to_hex());
                headers.insert("x-ms-end-epk", max.to_hex());
                headers.insert("x-ms-read-key-type", "EffectivePartitionKeyRange");
            }
        }
    }

    /// The container of a request, or `None` if there is no such.
    /// Puts the form that the emulator knows in place of the empty key of a container from the time before partition keys.
    async fn spell_out_empty_key(&self, call: &mut Call) {
        const KEY: &str = "x-ms-documentdb-partitionkey";
        if header(&call.headers, KEY) != Some("[]") {
            return;
        }
        if self
            .container(call)
            .await
            .is_some_and(|c| c.is_from_before_keys())
        {
            let missing = hyper::header::HeaderValue::from_static("[{}]");
            call.headers.insert(KEY, missing);
        }
    }

    async fn container(&self, call: &Call) -> Option<Arc<Container>> {
        let (db, coll) = call.container()?;
        self.container_named(db, coll).await
    }

    pub async fn container_named(&self, db: &str, coll: &str) -> Option<Arc<Container>> {
        let key = (db.to_owned(), coll.to_owned());
        if let Some(known) = self.containers().get(&key) {
            return Some(Arc::clone(known));
        }
        let properties = self.emulator.read(&["dbs", db, "colls", coll]).await?;
        let ranges = self
            .emulator
            .read(&["dbs", db, "colls", coll, "pkranges"])
            .await?;
        let container = Container::new(db, coll, &properties, &ranges, &self.clock, self.retention_bytes)?;
        let container = Arc::new(container);
        // Whoever was first stays: writes may have been entered there already.
        Some(Arc::clone(self.containers().entry(key).or_insert(container)))
    }

    pub fn containers(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<Container>>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's partition layout as the emulator has it now.
    pub async fn ranges(&self, container: &Container) -> Option<Vec<Range>> {
        let path = ["dbs", &container.db, "colls", &container.coll, "pkranges"];
        parse_ranges(&self.emulator.read(&path).await?)
    }

    /// Resource ids in a path stand for names; the emulator knows names only.
    async fn resolve_rids(&self, call: &mut Call) {
        // Base64 of four and of eight bytes. A name can look like that too: it is only replaced by a known id.
        let looks_like = |text: &str, length| text.len() == length && text.ends_with('=');
        let name_of = |list: Option<serde_json::Value>, field: &str, rid: &str| {
            let list = list?;
            let found = list
                .get(field)?
                .as_array()?
                .iter()
                .find(|item| item["_rid"] == rid)?;
            found.get("id")?.as_str().map(str::to_owned)
        };
        if call.path.first().is_some_and(|first| first == "dbs")
            && call.path.get(1).is_some_and(|db| looks_like(db, 8))
        {
            if let Some(name) = name_of(self.emulator.read(&["dbs"]).await, "Databases", &call.path[1]) {
                call.path[1] = name;
            }
        }
        if call.path.get(3).is_some_and(|coll| looks_like(coll, 12)) {
            let list = self.emulator.read(&["dbs", &call.path[1], "colls"]).await;
            if let Some(name) = name_of(list, "DocumentCollections", &call.path[3]) {
                call.path[3] = name;
            }
        }
    }

    /// Takes out of a container what has expired, before somebody reads it.
    async fn before_read(&self, call: &Call) {
        if let Some(container) = self.container(call).await {
            ttl::expire_before_read(self, &container).await;
        }
    }

    /// The definition of a container, with how many documents it has: the emulator says 0 to everybody, the service only to who asks.
    async fn with_usage(&self, call: &Call) -> Reply {
        self.before_read(call).await;
        let reply: Reply = self.pass(call).await.into();
        let (200, Some(container)) = (reply.status, self.container(call).await) else {
            return reply;
        };
        let documents: usize = container
            .layout
            .read()
            .await
            .counts()
            .await
            .iter()
            .map(|(_, count)| count)
            .sum();
        reply.with(
            "x-ms-resource-usage",
            format!("functions=0;storedProcedures=0;triggers=0;documentSize=0;documentsSize={documents};documentsCount={documents};collectionSize={documents};"),
        )
    }

    /// Creates a container, or changes its settings.
    async fn settings(&self, call: &Call) -> Reply {
        if let Some(message) = ttl::refuse_container(&call.body) {
            return Reply::error(400, 0, &message);
        }
        let mut request = self.inner_request(call);
        if let Some(body) = definitions::numbered_version(&call.body) {
            request.set_body(body);
        }
        // One that is new to this server is read with its settings when it is first used.
        let known = match call.container() {
            Some((db, coll)) => self
                .containers()
                .get(&(db.to_owned(), coll.to_owned()))
                .map(Arc::clone),
            None => None,
        };
        let Some(container) = known else {
            return self.emulator.call(&request).await.into();
        };
        let mut layout = container.layout.write().await;
        let answer = self.emulator.call(&request).await;
        if answer.ok() {
            let settings = serde_json::from_slice(&answer.body).unwrap_or_default();
            container.rules.ttl.set(&Ttl::of(&settings));
            layout.reckon_deadlines();
        }
        answer.into()
    }

    /// Deletes a database or container, and forgets what the server knew about it.
    async fn delete(&self, call: &Call) -> Reply {
        let mut gone: Vec<Arc<Container>> = {
            let path = call.segments();
            let named = |key: &(String, String)| {
                path.get(1).is_some_and(|db| key.0 == *db) && path.get(3).is_none_or(|coll| key.1 == *coll)
            };
            self.containers()
                .iter()
                .filter(|(key, _)| named(key))
                .map(|(_, c)| Arc::clone(c))
                .collect()
        };
        // One order for all who take several locks, so that two deletions cannot wait for each other.
        gone.sort_by(|a, b| (&a.db, &a.coll).cmp(&(&b.db, &b.coll)));
        // The locks keep writes out from the emulator's deletion until the entry is forgotten.
        let mut layouts = Vec::new();
        for container in &gone {
            layouts.push(container.layout.write().await);
        }
        let answer = self.pass(call).await;
        if answer.ok() {
            for (container, layout) in gone.iter().zip(&mut layouts) {
                layout.gone = true;
                self.containers()
                    .remove(&(container.db.clone(), container.coll.clone()));
            }
        }
        answer.into()
    }

    /// A write of one document: the emulator carries it out, the container's feed takes what it stored.
    async fn write(&self, kind: Kind, call: &Call) -> Reply {
        let mut request = self.inner_request(call);
        // The feed needs the stored document as text, whatever the client asked to have back.
        let headers = request.headers_mut();
        headers.insert("x-ms-cosmos-populate-content-response-on-write", "true");
        headers.remove(HeaderName::from_static(
            "x-ms-cosmos-supported-serialization-formats",
        ));
        let mut patch = None;
        if kind == Kind::Patch {
            match Patch::parse(&call.body) {
                Ok(parsed) => {
                    request.set_body(parsed.body.clone());
                    patch = Some(parsed);
                }
                Err((status, message)) => return Reply::error(status, 0, &message),
            }
        }
        loop {
            let Some(container) = self.container(call).await else {
                return no_container(call);
            };
            let layout = container.layout.read().await;
            if layout.gone {
                continue;
            }
            let (key, scope) = written(&container, &call.headers);
            if let (Kind::Create | Kind::Upsert | Kind::Replace, Some(message)) =
                (kind, ttl::refuse_document(&container, &call.body))
            {
                return Reply::error(400, 0, &message);
            }
            let mut feeds = layout.feeds(&scope).await;
            ttl::expire(self, &container, &mut feeds).await;
            if let Some(patch) = &patch {
                let id = call.path.get(5).map_or("", String::as_str);
                let key = patch::key_of(&call.headers);
                let checked = patch::check(&self.scratch, &self.emulator, &container, patch, id, key).await;
                if let Err((status, message)) = checked {
                    return Reply::error(status, 0, &message);
                }
            }
            let answer = self.emulator.call(&request).await;
            if answer.ok() {
                let key = key.unwrap_or_else(|| container.hash_document(&answer.body));
                let entered = key.and_then(|epk| {
                    if kind == Kind::Delete {
                        feeds.remove(epk, call.path.get(5).map_or("", String::as_str));
                        Ok(())
                    } else {
                        let write = feeds.begin();
                        feeds.put(write, 0, epk, answer.body.clone())
                    }
                });
                if let Err(message) = entered {
                    return Reply::error(
                        500,
                        0,
                        &format!("The change feed did not take the write: {message}"),
                    );
                }
            }
            let minimal = answer.ok() && !wants_content(&call.headers);
            let mut reply: Reply = answer.into();
            if minimal {
                reply.body = Bytes::new();
            }
            return reply;
        }
    }

    /// A transactional batch: all its documents get one position in the feed.
    async fn batch(&self, call: &Call) -> Reply {
        let mut request = self.inner_request(call);
        request
            .headers_mut()
            .insert("x-ms-cosmos-populate-content-response-on-write", "true");
        let operations: Vec<serde_json::Value> = serde_json::from_slice(&call.body).unwrap_or_default();
        let patches = operations
            .iter()
            .any(|operation| operation["operationType"] == "Patch");
        loop {
            let Some(container) = self.container(call).await else {
                return no_container(call);
            };
            let layout = container.layout.read().await;
            if layout.gone {
                continue;
            }
            let (key, scope) = written(&container, &call.headers);
            let mut feeds = layout.feeds(&scope).await;
            ttl::expire(self, &container, &mut feeds).await;
            let mut operations = Cow::Borrowed(&operations);
            let mut batch = None;
            if patches {
                let key = patch::key_of(&call.headers);
                let all = operations.into_owned();
                let planned = Batch::plan(&self.scratch, &self.emulator, &container, all, key).await;
                request.set_body(serde_json::Value::from(planned.operations.clone()).to_string());
                operations = Cow::Owned(planned.operations.clone());
                batch = Some(planned);
            }
            let answer = self.emulator.call(&request).await;
            let mut reply: Reply = answer.into();
            if reply.status != 200 {
                return match batch {
                    Some(batch) => batch.answer(reply),
                    None => reply,
                };
            }
            let mut results: Vec<serde_json::Value> = serde_json::from_slice(&reply.body).unwrap_or_default();
            let key = key.unwrap_or_else(|| Err("it has no partition key".to_owned()));
            let entered = key.and_then(|epk| {
                let write = feeds.begin();
                for (n, (operation, result)) in (0..).zip(operations.iter().zip(&results)) {
                    match operation["operationType"].as_str() {
                        Some("Read") => {}
                        Some("Delete") => {
                            feeds.remove(epk.clone(), operation["id"].as_str().unwrap_or_default());
                        }
                        _ => {
                            let body = result["resourceBody"].to_string();
                            feeds.put(write, n, epk.clone(), body.into())?;
                        }
                    }
                }
                Ok(())
            });
            if let Err(message) = entered {
                return Reply::error(
                    500,
                    0,
                    &format!("The change feed did not take the batch: {message}"),
                );
            }
            if !wants_content(&call.headers) {
                for (operation, result) in operations.iter().zip(&mut results) {
                    if operation["operationType"] != "Read" {
                        result.as_object_mut().map(|result| result.remove("resourceBody"));
                    }
                }
                reply.body = serde_json::Value::Array(results).to_string().into();
            }
            return reply;
        }
    }

    /// The continuation after a page. That of a page which is empty on request differs from the one before, as if it
    /// had moved on: what stands behind the dash is not looked at.
    fn etag(&self, next: u64, versions: bool, emptied: bool) -> String {
        let mode = if versions { VERSIONS } else { "" };
        if emptied {
            let number = self.emptied.fetch_add(1, Relaxed);
            format!("\"{mode}{next}-{number}\"")
        } else {
            format!("\"{mode}{next}\"")
        }
    }

    /// A page of the change feed.
    async fn change_feed(&self, call: &Call) -> Reply {
        let headers = &call.headers;
        let mode = header(headers, "a-im").unwrap_or_default();
        let versions = mode.eq_ignore_ascii_case("full-fidelity feed");
        if !versions && !mode.eq_ignore_ascii_case("incremental feed") {
            return Reply::error(400, 0, &format!("There is no change feed mode '{mode}'."));
        }
        let Some(container) = self.container(call).await else {
            return no_container(call);
        };
        let (scope, start) = match feed_request(&container, headers, versions) {
            Ok(request) => request,
            Err(message) => return Reply::error(400, 0, &message),
        };
        let limit = header(headers, "x-ms-max-item-count").and_then(|count| count.parse::<usize>().ok());
        let limit = limit.unwrap_or(usize::MAX);
        let layout = container.layout.read().await;
        if let Some(range) = scope.partition.as_ref().filter(|id| layout.range(id).is_none()) {
            return Reply::error(
                410,
                RANGE_GONE,
                &format!("The partition key range {range} is no more."),
            );
        }
        let mut feeds = layout.feeds(&scope).await;
        ttl::expire(self, &container, &mut feeds).await;
        let (page, body) = if versions {
            match self.versions(&container, &feeds, &scope, start, limit, call.empty_page) {
                Ok(page) => page,
                Err(message) => return Reply::error(400, 0, &message),
            }
        } else {
            let most = self.page_bytes.load(Relaxed);
            let page = if call.empty_page {
                feeds.read(&scope, start, 1, most).emptied()
            } else {
                feeds.read(&scope, start, limit, most)
            };
            drop(feeds);
            let structured = headers.contains_key("x-ms-cosmos-changefeed-wire-format-version");
            let body = feed_body(&container.rid, &page.changes, structured);
            let page = FeedPage {
                count: page.changes.len(),
                next: page.next,
                last: page.last,
                partition: page.partition,
            };
            (page, body)
        };
        self.counts
            .with(|stats| stats.feed_documents += page.count as u64);
        let empty = page.count == 0 && !call.empty_page;
        let (status, body) = if empty { (304, Vec::new()) } else { (200, body) };
        // A charge by size, a request unit for each started 4 KiB, as reads cost on the service roughly.
        let charge = body.len().div_ceil(4096).max(1);
        let still = header(headers, "if-none-match").filter(|_| call.still_page);
        let etag = still.map_or_else(|| self.etag(page.next, versions, call.empty_page), str::to_owned);
        let reply = Reply::new(status, body)
            .with("etag", etag)
            .with("lsn", page.last)
            .with("x-ms-item-count", page.count)
            .with("x-ms-request-charge", charge);
        match page.partition {
            Some(id) => reply
                .with("x-ms-session-token", format!("{id}:-1#{}", page.last))
                .with("x-ms-documentdb-partitionkeyrangeid", id),
            None => reply,
        }
    }

    /// A page of history, and its body.
    ///
    /// # Errors
    /// Why the request is a bad one.
    fn versions(
        &self,
        container: &Container,
        feeds: &crate::container::Feeds<'_>,
        scope: &Scope,
        start: Start,
        limit: usize,
        emptied: bool,
    ) -> Result<(FeedPage, Vec<u8>), String> {
        let refused = |message: &str| Err(message.to_owned());
        if self.retention_bytes.is_none() {
            return refused(
                "The change feed mode AllVersionsAndDeletes needs an account with continuous backup (--all-versions).",
            );
        }
        let after = match start {
            Start::Now => None,
            Start::After(position) => Some(position),
            Start::Beginning | Start::Time(_) => {
                return refused(
                    "The change feed mode AllVersionsAndDeletes starts from now or from a continuation.",
                )
            }
        };
        let (limit, most) = if emptied {
            (1, 1)
        } else {
            (limit, self.page_bytes.load(Relaxed))
        };
        let mut page = match feeds.read_versions(scope, after, limit, most) {
            Ok(page) => page,
            Err(oldest) => {
                return refused(&format!(
                    "The history starts at {oldest}, after the continuation."
                ));
            }
        };
        if emptied {
            page.next = page.versions.first().map_or(page.next, |(lsn, _)| lsn - 1);
            page.versions.clear();
        }
        let key = match self.key_as_object.load(Relaxed) {
            true => MetadataKey::Object,
            false => MetadataKey::Array,
        };
        let body = history::body(container, &page, self.previous_images.load(Relaxed), key);
        let page = FeedPage {
            count: page.versions.len(),
            next: page.next,
            last: page.last,
            partition: page.partition,
        };
        Ok((page, body))
    }
}

/// What the answers of both modes of the change feed say about a page.
struct FeedPage {
    count: usize,
    /// Where the next page starts.
    next: u64,
    /// The newest write of the container.
    last: u64,
    partition: Option<String>,
}

/// Ids of the documents that a request names, those of its operations too.
fn documents(kind: Kind, call: &Call) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: Option<String>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Operation {
        id: Option<String>,
        resource_body: Option<Named>,
    }
    if let Some(id) = call.path.get(5) {
        return vec![id.clone()];
    }
    match kind {
        Kind::Bulk | Kind::Batch => serde_json::from_slice::<Vec<Operation>>(&call.body)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|operation| operation.id.or_else(|| operation.resource_body?.id))
            .collect(),
        Kind::Create | Kind::Upsert => serde_json::from_slice::<Named>(&call.body)
            .ok()
            .and_then(|named| named.id)
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

fn no_container(call: &Call) -> Reply {
    Reply::error(
        404,
        1003,
        &format!("There is no container at {}.", call.path.join("/")),
    )
}

/// The hashed partition key that a write names, if it does, and what it may touch: the partition of that key, or all of them.
fn written(container: &Container, headers: &HeaderMap) -> (Option<Result<Epk, String>>, Scope) {
    let key = header(headers, "x-ms-documentdb-partitionkey").map(|json| container.hash(json));
    let scope = match &key {
        Some(Ok((epk, _, true))) => Scope::of_key(epk.clone()),
        _ => Scope::default(),
    };
    (key.map(|key| key.map(|(epk, _, _)| epk)), scope)
}

/// What a change feed request covers, and where it starts.
fn feed_request(
    container: &Container,
    headers: &HeaderMap,
    versions: bool,
) -> Result<(Scope, Start), String> {
    let epk = |name| {
        header(headers, name)
            .map(|hex| Epk::try_from(hex).map_err(|e| format!("{name} is '{hex}': {e}")))
            .transpose()
    };
    let mut scope = Scope {
        partition: header(headers, "x-ms-documentdb-partitionkeyrangeid")
            .map(|id| id.rsplit(',').next().unwrap_or(id).to_owned()),
        min: epk("x-ms-start-epk")?,
        max: epk("x-ms-end-epk")?,
        key: None,
    };
    if let Some(json) =
        header(headers, "x-ms-documentdb-partitionkey").filter(|json| !matches!(*json, "" | "[]"))
    {
        let (min, max, complete) = container.hash(json)?;
        if complete {
            scope.key = Some(min);
        } else if scope.min.is_none() && scope.max.is_none() {
            (scope.min, scope.max) = (Some(min), Some(max));
        }
    }
    let token = header(headers, "if-none-match")
        .or(header(headers, "x-ms-continuation"))
        .map(str::trim)
        .filter(|token| !token.is_empty());
    let start = match (token, header(headers, "if-modified-since")) {
        (Some("*"), _) => Start::Now,
        (Some(token), _) => {
            let plain = token.trim_start_matches("W/").trim_matches('"');
            let (of_versions, plain) = match plain.strip_prefix(VERSIONS) {
                Some(plain) => (true, plain),
                None => (false, plain),
            };
            let position = plain.split('-').next().unwrap_or_default().parse();
            let position =
                position.map_err(|_| format!("The continuation '{token}' is not one of this server."))?;
            if of_versions != versions {
                return Err(format!(
                    "The continuation '{token}' is one of another change feed mode."
                ));
            }
            Start::After(position)
        }
        (None, Some(date)) => {
            let time = httpdate::parse_http_date(date)
                .map_err(|_| format!("If-Modified-Since is '{date}', not an HTTP date."))?;
            let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Start::Time(since.as_secs())
        }
        (None, None) => Start::Beginning,
    };
    Ok((scope, start))
}

/// The body of a feed page, put together from the stored documents without parsing them.
fn feed_body(rid: &str, changes: &[crate::container::Change], structured: bool) -> Vec<u8> {
    use std::io::Write;
    let size = changes.iter().map(|change| change.body.len() + 64).sum::<usize>();
    let mut out = Vec::with_capacity(size + 128);
    // Writing to a vector cannot fail.
    let _ = write!(out, r#"{{"_rid":"{rid}","Documents":["#);
    for (n, change) in changes.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        if structured {
            out.extend_from_slice(br#"{"current":"#);
            out.extend_from_slice(&change.body);
            let _ = write!(
                out,
                r#","metadata":{{"lsn":{},"crts":{}}}}}"#,
                change.lsn, change.ts
            );
        } else {
            // The flat form carries the position inside the document, before its closing brace.
            let inside = change.body.strip_suffix(b"}").unwrap_or(&change.body);
            out.extend_from_slice(inside);
            let _ = write!(out, r#","_lsn":{}}}"#, change.lsn);
        }
    }
    let _ = write!(out, r#"],"_count":{}}}"#, changes.len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_declared_in_one_word() {
        let spec: ContainerSpec = "events:/region".parse().unwrap();
        assert_eq!(
            (spec.partitions, spec.request_units, spec.database),
            (4, None, None)
        );
        let spec: ContainerSpec = "shop/events:/tenant,/user:8:4000".parse().unwrap();
        assert_eq!(spec.database.as_deref(), Some("shop"));
        assert_eq!(spec.partition_key, ["/tenant", "/user"]);
        assert_eq!((spec.partitions, spec.request_units), (8, Some(4000)));
        for (bad, names) in [
            ("events", "partition key"),
            ("events:region", "region"),
            ("events:/region:x", "'x'"),
            ("events:/region:1:y", "'y'"),
            (":/region", "not a container"),
            ("e:/a,/b,/c,/d", "one to three"),
        ] {
            let error = bad.parse::<ContainerSpec>().unwrap_err();
            assert!(error.contains(names), "{bad}: {error}");
        }
    }
}
