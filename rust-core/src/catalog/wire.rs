//! The frames ADMINISTER and CONTAINER of `docs/boundary.md`.

use super::infer::{Column, Conflict, Inferred, Numbers, Rules};
use crate::error::{CoreError, Result};
use crate::frame::{encode_strings, FrameKind, FrameReader, FrameWriter};
use crate::rows::write_type;

/// Request units per second of what is created; zero: what the account gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throughput {
    /// These.
    pub manual: u32,
    /// At most so many, scaled by the service.
    pub autoscale: u32,
}

/// What a catalog wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To know that the account answers.
    Connect,
    /// The names of all databases.
    Databases,
    /// To know that a database is there.
    Database {
        /// Its name.
        database: String,
    },
    /// The names of a database's containers.
    Containers {
        /// Its name.
        database: String,
    },
    /// What a container is.
    Container {
        /// The name of its database.
        database: String,
        /// Its name.
        container: String,
        /// How many documents are looked at; zero: none, and there are no columns.
        sample: u32,
        /// How types are decided.
        rules: Rules,
    },
    /// A database more.
    CreateDatabase {
        /// Its name.
        database: String,
        /// What its containers share.
        throughput: Throughput,
    },
    /// A container more.
    CreateContainer {
        /// The name of its database.
        database: String,
        /// Its name.
        container: String,
        /// Paths of its partition key, as the service has them.
        keys: Vec<String>,
        /// Seconds; -1: documents live on that do not say otherwise; 0: all do.
        default_ttl: i64,
        /// What it may use.
        throughput: Throughput,
    },
    /// A database less, with its containers.
    DropDatabase {
        /// Its name.
        database: String,
    },
    /// A container less, with its documents.
    DropContainer {
        /// The name of its database.
        database: String,
        /// Its name.
        container: String,
    },
}

impl Request {
    /// Reads an ADMINISTER frame.
    ///
    /// # Errors
    /// State when the frame is damaged or of another build.
    pub fn decode(frame: &[u8]) -> Result<Request> {
        let mut r = FrameReader::open(frame, FrameKind::Administer)?;
        let action = r.u8()?;
        let name = |r: &mut FrameReader<'_>| r.str().map(str::to_owned);
        let throughput = |r: &mut FrameReader<'_>| -> Result<Throughput> {
            Ok(Throughput {
                manual: r.u32()?,
                autoscale: r.u32()?,
            })
        };
        let request = match action {
            1 => Request::Connect,
            2 => Request::Databases,
            3 => Request::Database {
                database: name(&mut r)?,
            },
            4 => Request::Containers {
                database: name(&mut r)?,
            },
            5 => Request::Container {
                database: name(&mut r)?,
                container: name(&mut r)?,
                sample: r.u32()?,
                rules: rules(&mut r)?,
            },
            6 => Request::CreateDatabase {
                database: name(&mut r)?,
                throughput: throughput(&mut r)?,
            },
            7 => Request::CreateContainer {
                database: name(&mut r)?,
                container: name(&mut r)?,
                keys: {
                    let count = r.u32()?;
                    (0..count).map(|_| name(&mut r)).collect::<Result<_>>()?
                },
                default_ttl: r.i64()?,
                throughput: throughput(&mut r)?,
            },
            8 => Request::DropDatabase {
                database: name(&mut r)?,
            },
            9 => Request::DropContainer {
                database: name(&mut r)?,
                container: name(&mut r)?,
            },
            other => return Err(unknown("action", other)),
        };
        r.finish()?;
        Ok(request)
    }

    /// The names of the database and the container that it is about, as far as it is about one.
    pub(super) fn names(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Request::Connect | Request::Databases => (None, None),
            Request::Database { database }
            | Request::Containers { database }
            | Request::CreateDatabase { database, .. }
            | Request::DropDatabase { database } => (Some(database), None),
            Request::Container {
                database, container, ..
            }
            | Request::CreateContainer {
                database, container, ..
            }
            | Request::DropContainer { database, container } => (Some(database), Some(container)),
        }
    }
}

fn unknown(what: &str, number: u8) -> CoreError {
    CoreError::state(format!(
        "{what} {number} of a catalog is not known; use the same version of jar and library"
    ))
}

fn rules(r: &mut FrameReader<'_>) -> Result<Rules> {
    Ok(Rules {
        numbers: match r.u8()? {
            1 => Numbers::Auto,
            2 => Numbers::Double,
            3 => Numbers::Decimal,
            other => return Err(unknown("rule for numbers", other)),
        },
        conflict: match r.u8()? {
            1 => Conflict::Variant,
            2 => Conflict::Text,
            other => return Err(unknown("rule for conflicts", other)),
        },
        timestamps: r.u8()? & 1 != 0,
    })
}

/// What a container is.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its resource id: one that is created anew has another.
    pub rid: String,
    /// Seconds after which documents expire that do not say otherwise; -1: these never do; 0: no document does.
    pub default_ttl: i64,
    /// How many documents there are, and their bytes, as the service counts them; -1: it does not say.
    pub documents: i64,
    /// Their size.
    pub bytes: i64,
    /// How many documents were looked at.
    pub sampled: u32,
    /// Where the parts of its partition key are, each as names from the outside in.
    pub keys: Vec<Vec<String>>,
    /// The table that it is; without columns where no document was asked for.
    pub table: Inferred,
}

/// What is said to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Names; none where nothing but the doing was wanted. Of a container that was created its resource id.
    Names(Vec<String>),
    /// A container.
    Container(Container),
}

impl Answer {
    /// A STRINGS or a CONTAINER frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Names(names) => encode_strings(names),
            Answer::Container(container) => container.encode(),
        }
    }
}

impl Container {
    /// Writes a CONTAINER frame.
    pub fn encode(&self) -> Vec<u8> {
        let path = |w: &mut FrameWriter, path: &[String]| {
            w.u32(path.len() as u32);
            path.iter().for_each(|name| w.str(name));
        };
        let mut w = FrameWriter::new(FrameKind::Container);
        w.str(&self.rid);
        w.i64(self.default_ttl);
        w.i64(self.documents);
        w.i64(self.bytes);
        w.u32(self.sampled);
        w.u32(self.keys.len() as u32);
        self.keys.iter().for_each(|key| path(&mut w, key));
        w.u32(self.table.columns.len() as u32);
        for Column { name, path: at, kind } in &self.table.columns {
            w.str(name);
            path(&mut w, at);
            write_type(&mut w, kind);
        }
        w.u32(self.table.primary_key.len() as u32);
        self.table.primary_key.iter().for_each(|name| w.str(name));
        w.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_is_named() {
        for (rest, what) in [
            (&[0][..], "action 0"),
            (&[10], "action 10"),
            (
                &[5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4, 1, 0],
                "rule for numbers 4",
            ),
            (
                &[5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 3, 0],
                "rule for conflicts 3",
            ),
            (&[1, 0], "left behind the end"),
        ] {
            let mut w = FrameWriter::new(FrameKind::Administer);
            rest.iter().for_each(|byte| w.u8(*byte));
            let error = Request::decode(&w.0).unwrap_err();
            assert_eq!(error.kind, Kind::State);
            assert!(error.message.contains(what), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut w = FrameWriter::new(FrameKind::Administer);
            bytes.iter().for_each(|byte| w.u8(*byte));
            let _ = Request::decode(&w.0);
        }
    }
}
