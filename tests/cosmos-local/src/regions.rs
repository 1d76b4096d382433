//! The regions of the account: which there are, which of them takes writes, and which are down.
//!
//! All regions serve the same documents, without delay: what differs is who may write where, and who answers at all.

use crate::emulator::Reply;
use crate::faults::{lock, Kind};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// The name of the only region where none is given.
const ONLY: &str = "Local";
/// A listener is closed, or open again, long before.
const SWITCHED: Duration = Duration::from_secs(10);

/// Which of the account's endpoints a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The account's own: it answers for the region that takes writes.
    Account,
    Region(usize),
    /// The Gateway 2.0 of a region.
    GatewayV2(usize),
}

/// The state of a listener: what it shall do, and what it does.
pub(crate) struct Switch {
    pub up: watch::Receiver<bool>,
    pub listening: watch::Sender<bool>,
}

/// One region. Without an endpoint of its own it is served by the account's.
struct Region {
    name: String,
    endpoint: Option<Endpoint>,
    gateway_v2: Option<SocketAddr>,
}

struct Endpoint {
    address: SocketAddr,
    up: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
}

struct State {
    /// The region that takes writes.
    write: usize,
    /// The regions that are part of the account.
    members: Vec<bool>,
    per_partition_failover: bool,
    /// The regions that take the writes of single partitions, by container and id of the partition key range.
    failed_over: HashMap<(String, String), usize>,
}

/// The regions of the account.
pub(crate) struct Regions {
    scheme: &'static str,
    list: Vec<Region>,
    state: Mutex<State>,
    /// Whether a partition failed over alone. Read on each request without the lock.
    any_failed_over: AtomicBool,
}

/// A change of the regions; each part names one of them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Change {
    /// Take it out of the account: it answers 403/1008 from now on.
    remove: Option<String>,
    /// Make it a part of the account again.
    add: Option<String>,
    /// Make it the region that takes writes.
    write: Option<String>,
    /// Close its listener and its connections.
    offline: Option<String>,
    /// Open its listener again.
    online: Option<String>,
    /// Whether the account says that single partitions fail over.
    per_partition_failover: Option<bool>,
    /// Let another region take the writes of one partition.
    fail_over: Option<FailOver>,
}

/// A partition that fails over alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailOver {
    container: String,
    /// Id of the partition key range.
    partition: String,
    /// The region that takes its writes; without one, that of the account does again.
    to: Option<String>,
}

impl Regions {
    pub fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            list: Vec::new(),
            state: Mutex::new(State {
                write: 0,
                members: Vec::new(),
                per_partition_failover: false,
                failed_over: HashMap::new(),
            }),
            any_failed_over: AtomicBool::new(false),
        }
    }

    /// Adds the region that the account's own endpoint serves.
    pub fn add_only(&mut self, gateway_v2: Option<SocketAddr>) {
        self.push(ONLY.to_owned(), None, gateway_v2);
    }

    /// Adds a region with an endpoint of its own, and gives the switch of its listener. The first takes writes.
    ///
    /// # Errors
    /// Says which name is empty or given twice.
    pub fn add(
        &mut self,
        name: &str,
        address: SocketAddr,
        gateway_v2: Option<SocketAddr>,
    ) -> Result<Switch, String> {
        if name.trim().is_empty() {
            return Err(format!("'{name}' is not the name of a region"));
        }
        if self.index(name).is_ok() {
            return Err(format!("the region '{name}' is declared twice"));
        }
        let (up, shall) = watch::channel(true);
        let (listens, listening) = watch::channel(true);
        let endpoint = Endpoint {
            address,
            up,
            listening,
        };
        self.push(name.to_owned(), Some(endpoint), gateway_v2);
        Ok(Switch {
            up: shall,
            listening: listens,
        })
    }

    fn push(&mut self, name: String, endpoint: Option<Endpoint>, gateway_v2: Option<SocketAddr>) {
        self.list.push(Region {
            name,
            endpoint,
            gateway_v2,
        });
        lock(&self.state).members.push(true);
    }

    fn index(&self, name: &str) -> Result<usize, String> {
        let found = self.list.iter().position(|region| region.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.list.iter().map(|region| region.name.as_str()).collect();
            format!("there is no region '{name}', there are {}", names.join(", "))
        })
    }

    /// Whether regions were declared: without, nothing of this matters to a request.
    fn declared(&self) -> bool {
        self.list.iter().any(|region| region.endpoint.is_some())
    }

    /// The region that answers on a listener.
    pub fn name(&self, role: Role) -> &str {
        let index = match role {
            Role::Account => lock(&self.state).write,
            Role::Region(index) | Role::GatewayV2(index) => index,
        };
        self.list.get(index).map_or(ONLY, |region| &region.name)
    }

    /// The name and the endpoint of each region that has one of its own, as a client on this machine reaches it.
    pub fn endpoints(&self) -> Vec<(String, String)> {
        let endpoints = self.list.iter().filter_map(|region| {
            let address = region.endpoint.as_ref()?.address;
            let host = local_host(address);
            Some((
                region.name.clone(),
                format!("{}://{host}:{}/", self.scheme, address.port()),
            ))
        });
        endpoints.collect()
    }

    /// Whether the partition of a request matters to [`Self::refuse`].
    pub fn look_at_partitions(&self) -> bool {
        self.any_failed_over.load(Relaxed)
    }

    /// Refuses a request that its region does not serve. `reads` says that one for a database, a container or an offer
    /// changes nothing; `partition` is the container and the partition key range that it goes to.
    pub fn refuse(
        &self,
        role: Role,
        kind: Kind,
        reads: bool,
        partition: Option<(String, String)>,
    ) -> Option<Reply> {
        let Role::Region(region) = role else {
            return None;
        };
        let state = lock(&self.state);
        let name = &self.list.get(region)?.name;
        if !state.members[region] {
            let message = format!("The region {name} is not a part of the account.");
            return Some(Reply::error(403, 1008, &message));
        }
        let writes = match kind {
            Kind::Create
            | Kind::Upsert
            | Kind::Replace
            | Kind::Patch
            | Kind::Delete
            | Kind::Batch
            | Kind::Bulk => true,
            Kind::Database | Kind::Container | Kind::Offer => !reads,
            _ => false,
        };
        let takes = partition.and_then(|partition| state.failed_over.get(&partition).copied());
        if writes && region != takes.unwrap_or(state.write) {
            let message = format!("The requested operation cannot be performed at this region ({name}).");
            return Some(Reply::error(403, 3, &message));
        }
        None
    }

    /// The account as the emulator describes it, with this server's regions in place of the emulator's; `backup` says
    /// whether it has continuous backup.
    pub fn describe(&self, account: &[u8], authority: &str, backup: bool) -> Option<Bytes> {
        let mut account: Value = serde_json::from_slice(account).ok()?;
        let state = lock(&self.state);
        let host = host(authority);
        let location = |region: &Region, address: Option<SocketAddr>| {
            let endpoint = match address {
                Some(address) => format!("{}://{host}:{}/", self.scheme, address.port()),
                None => format!("{}://{authority}/", self.scheme),
            };
            json!({ "name": region.name, "databaseAccountEndpoint": endpoint })
        };
        // The region that takes writes comes first, as on the service.
        let mut order: Vec<usize> = (0..self.list.len()).filter(|n| state.members[*n]).collect();
        order.sort_by_key(|n| *n != state.write);
        let of = |gateway: bool| -> Vec<Value> {
            let regions = order.iter().map(|n| &self.list[*n]);
            let listed = regions.filter(|region| !gateway || region.gateway_v2.is_some());
            listed
                .map(|region| {
                    let own = region.endpoint.as_ref().map(|endpoint| endpoint.address);
                    location(region, if gateway { region.gateway_v2 } else { own })
                })
                .collect()
        };
        let (endpoints, gateways) = (of(false), of(true));
        account["writableLocations"] = endpoints.iter().take(1).cloned().collect();
        account["readableLocations"] = endpoints.into();
        if !gateways.is_empty() {
            account["thinClientWritableLocations"] = gateways.iter().take(1).cloned().collect();
            account["thinClientReadableLocations"] = gateways.into();
        }
        account["continuousBackupEnabled"] = backup.into();
        account["enablePerPartitionFailoverBehavior"] = state.per_partition_failover.into();
        Some(account.to_string().into())
    }

    /// The regions for an admin request.
    pub fn list(&self) -> Value {
        let state = lock(&self.state);
        let regions: Vec<_> = self
            .list
            .iter()
            .enumerate()
            .map(|(n, region)| {
                let url = |address: SocketAddr| format!("{}://{address}/", self.scheme);
                json!({
                    "name": region.name,
                    "endpoint": region.endpoint.as_ref().map(|endpoint| url(endpoint.address)),
                    "gatewayV2": region.gateway_v2.map(url),
                    "write": n == state.write,
                    "member": state.members[n],
                    "online": region.endpoint.as_ref().is_none_or(|endpoint| *endpoint.up.borrow()),
                })
            })
            .collect();
        let failed_over: Vec<_> = state
            .failed_over
            .iter()
            .map(|((container, partition), to)| {
                json!({ "container": container, "partition": partition, "to": self.list[*to].name })
            })
            .collect();
        json!({
            "regions": regions,
            "perPartitionFailover": state.per_partition_failover,
            "failedOver": failed_over,
        })
    }

    /// Carries out a change; a listener that is to close or open has done so when this returns.
    ///
    /// # Errors
    /// Names the region that is not known, or why it cannot be changed so. Nothing is changed then.
    pub async fn change(&self, change: Change) -> Result<(), String> {
        let index = |name: &Option<String>| name.as_deref().map(|name| self.index(name)).transpose();
        let (remove, add) = (index(&change.remove)?, index(&change.add)?);
        let (write, offline, online) = (
            index(&change.write)?,
            index(&change.offline)?,
            index(&change.online)?,
        );
        let fail_over = match &change.fail_over {
            Some(over) => Some((over, index(&over.to)?)),
            None => None,
        };
        if !self.declared() && (remove.is_some() || offline.is_some()) {
            return Err("the account has no regions; start it with --region NAME for each".to_owned());
        }
        {
            let mut state = lock(&self.state);
            let mut members = state.members.clone();
            for (region, member) in [(remove, false), (add, true)] {
                if let Some(region) = region {
                    members[region] = member;
                }
            }
            let write = write.unwrap_or(state.write);
            if !members[write] {
                return Err(format!(
                    "{} takes writes, so it must be a part of the account: let another one take them",
                    self.list[write].name
                ));
            }
            state.members = members;
            state.write = write;
            if let Some((over, to)) = fail_over {
                let partition = (over.container.clone(), over.partition.clone());
                match to {
                    Some(to) => state.failed_over.insert(partition, to),
                    None => state.failed_over.remove(&partition),
                };
                self.any_failed_over.store(!state.failed_over.is_empty(), Relaxed);
            }
            if let Some(on) = change.per_partition_failover {
                state.per_partition_failover = on;
            }
        }
        for (region, up) in [(offline, false), (online, true)] {
            let Some(endpoint) = region.and_then(|region| self.list[region].endpoint.as_ref()) else {
                continue;
            };
            endpoint.up.send_replace(up);
            let mut listening = endpoint.listening.clone();
            let done = async { listening.wait_for(|listening| *listening == up).await.is_ok() };
            if !tokio::time::timeout(SWITCHED, done).await.unwrap_or_default() {
                return Err(format!("the listener of {} cannot be switched", endpoint.address));
            }
        }
        Ok(())
    }
}

/// The host in `host:port`, with the brackets of an IPv6 address.
fn host(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// The host by which a client on this machine reaches an address.
pub(crate) fn local_host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(a) => a.ip().to_string(),
        SocketAddr::V6(a) => format!("[{}]", a.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_taken_apart_with_and_without_a_port() {
        for (authority, expected) in [
            ("localhost:8081", "localhost"),
            ("localhost", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8081", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
    }
}
