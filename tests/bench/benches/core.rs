//! What the core adds to a document on its way, beside the HTTP call. Criterion shows the time of a whole page, split or batch;
//! `throughput` gives it per element.

use std::hint::black_box;
use std::time::Duration;

use azure_core::Bytes;
use azure_data_cosmos_driver::models::effective_partition_key::EffectivePartitionKey;
use azure_data_cosmos_driver::models::PartitionKeyDefinition;
use cosmosflink_core::config::OnDecodeError;
use cosmosflink_core::config::{Config, Role, Start};
use cosmosflink_core::error::Result;
use cosmosflink_core::page::{build, build_rows, Items, KeyPaths, PageHead};
use cosmosflink_core::rows::{
    Change, Changelog, Column, Decoder, Deletion, DocumentColumn, DocumentPlan, Encoder, Format, Misfit,
    OnError, Origin, Place, Plan, Scalar, Type, TypeKind, Unit,
};
use cosmosflink_core::sink::{
    bulk_body, bulk_results, encode_completions, encode_operations, NewOperation, Operation, OperationKind,
    OperationResult, Service, Sink,
};
use cosmosflink_core::split::{Mode, Split, Stop};
use cosmosflink_core::status::{Asked, Fate};
use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use futures::future::BoxFuture;

/// An order of 430 bytes, as the producer writes it and the service gives it back.
fn document(i: usize) -> String {
    format!(
        r#"{{"id":"{:08x}-5717-4562-b3fc-2c963f66afa6","customerId":"customer-{:05}","amount":{}.{:02},"currency":"EUR","createdAt":"2026-11-24T10:15:30.123Z","source":"eu-west","lines":[{}],"_rid":"AAAAAYAAAAECAAAAAAAAAA==","_self":"dbs/AAAAAQ==/colls/AAAAAYAAAAE=/docs/AA==/","_etag":"\"00000000-0000-0000\"","_ts":1795517269}}"#,
        i,
        i % 64,
        i % 900,
        i % 100,
        [r#"{"sku":"sku-004711","quantity":2,"price":19.99,"gift":false}"#; 2].join(",")
    )
}

/// A document of fifty fields: 1 KB and, for each of the 16 that are texts, so many bytes more.
fn wide(i: usize, more: usize) -> String {
    let fields: Vec<_> = (0..48)
        .map(|n| match n % 3 {
            0 => format!(r#""field{n:02}":"{:04}{}""#, (i + n) % 10_000, "x".repeat(more)),
            1 => format!(r#""field{n:02}":{}"#, i * 31 + n),
            _ => format!(r#""field{n:02}":{}.{:02}"#, i % 900, n),
        })
        .collect();
    format!(
        r#"{{"id":"{i:08x}","customerId":"customer-{:05}",{},"_etag":"\"00000000-0000-0000\"","_ts":1795517269}}"#,
        i % 64,
        fields.join(",")
    )
}

/// A page of a thousand documents.
fn thousand(document: impl Fn(usize) -> String) -> Items {
    let documents: Vec<_> = (0..1000)
        .map(|i| {
            format!(
                r#"{{"current":{},"metadata":{{"lsn":{i},"crts":1795517269}}}}"#,
                document(i)
            )
        })
        .collect();
    let body = Bytes::from(format!(
        r#"{{"_rid":"x","Documents":[{}],"_count":1000}}"#,
        documents.join(",")
    ));
    Items::Envelope(body)
}

/// Plans, and what is said of them.
type Plans = Vec<(&'static str, Plan)>;

/// Documents of several sizes, and the plans that they become rows by.
fn pages() -> Vec<(&'static str, Items, Plans)> {
    vec![
        ("430 B", thousand(document), plans()),
        ("1 KB", thousand(|i| wide(i, 0)), wide_plans()),
        ("10 KB", thousand(|i| wide(i, 560)), wide_plans()),
    ]
}

fn page(c: &mut Criterion) {
    let paths = KeyPaths::new(&["/customerId"]);
    let split = split().encode();
    let head = || PageHead {
        split_id: "00-FF",
        split: &split,
        children: &[],
        arrived_epoch_millis: 1,
    };
    for (size, items, plans) in pages() {
        let mut group = c.benchmark_group(format!("page of {size}"));
        group.throughput(Throughput::Elements(1000));
        group.bench_function("to records", |b| {
            b.iter(|| {
                let page = build(&head(), black_box(&items), &paths, OnDecodeError::Fail);
                black_box(page.unwrap().frame.len())
            });
        });
        for (name, plan) in plans {
            let mut decoder = Decoder::new(&plan, paths.iter());
            group.bench_function(format!("to rows of {name}"), |b| {
                b.iter(|| {
                    let items = black_box(&items);
                    let page = build_rows(&head(), items, &paths, OnDecodeError::Fail, &mut decoder);
                    black_box(page.unwrap().frame.len())
                });
            });
        }
        group.finish();
    }
}

/// The way back: the documents of a thousand rows, each of which was read out of a document.
fn documents(c: &mut Criterion) {
    type Make = fn(usize) -> String;
    let sizes: [(&str, Make, Plans); 3] = [
        ("430 B", document, plans()),
        ("1 KB", |i| wide(i, 0), wide_plans()),
        ("10 KB", |i| wide(i, 560), wide_plans()),
    ];
    for (size, make, plans) in sizes {
        let mut group = c.benchmark_group(format!("documents of {size}"));
        group.throughput(Throughput::Elements(1000));
        for (name, plan) in plans {
            let rows: Vec<_> = (0..1000).map(|i| row(&plan, &make(i))).collect();
            let encoder = Encoder::new(&document_plan(&plan)).unwrap();
            let mut out = Vec::new();
            group.bench_function(format!("from rows of {name}"), |b| {
                b.iter(|| {
                    out.clear();
                    for row in black_box(&rows) {
                        encoder.append(row, 2 << 20, Misfit::Refuse, &mut out).unwrap();
                    }
                    black_box(out.len())
                });
            });
        }
        group.finish();
    }
}

/// The same columns where they are written.
fn document_plan(plan: &Plan) -> DocumentPlan {
    let columns = plan.columns.iter().map(|column| DocumentColumn {
        name: column.name.clone(),
        place: Place::Path {
            path: vec![column.name.clone()],
            written: true,
            deleted: false,
        },
        kind: column.kind.clone(),
    });
    DocumentPlan {
        format: plan.format,
        deletion: Deletion::None,
        columns: columns.collect(),
        constants: Vec::new(),
    }
}

fn row(plan: &Plan, document: &str) -> Vec<u8> {
    let mut decoder = Decoder::new(plan, []);
    decoder
        .row(&Change {
            operation: "upsert",
            ..Change::read(document.as_bytes())
        })
        .unwrap();
    decoder.take()
}

fn column(name: &str, kind: impl Into<Type>) -> Column {
    Column {
        name: name.to_owned(),
        origin: Origin::Path(vec![name.to_owned()]),
        kind: kind.into(),
    }
}

fn plan(columns: Vec<Column>) -> Plan {
    Plan {
        missing_is_error: false,
        on_error: OnError::Fail,
        format: Format::Iso,
        unit: Unit::None,
        changelog: Changelog::Append,
        columns,
        filter: None,
    }
}

const DECIMAL: Scalar = Scalar::Decimal {
    precision: 10,
    scale: 2,
};

const MOMENT: Scalar = Scalar::Timestamp {
    precision: 3,
    zoned: true,
};

/// Five columns of an order, and all of them.
fn plans() -> Plans {
    let line = [
        ("sku", Scalar::String),
        ("quantity", Scalar::Int),
        ("price", DECIMAL),
        ("gift", Scalar::Boolean),
    ];
    let line = line.map(|(name, kind)| (name.to_owned(), Type::from(kind)));
    let nullable = |kind| Type { kind, nullable: true };
    let lines = nullable(TypeKind::Array(Box::new(nullable(TypeKind::Row(line.into())))));
    let few = vec![
        column("id", Scalar::String),
        column("customerId", Scalar::String),
        column("amount", DECIMAL),
        column("createdAt", MOMENT),
        column("_ts", MOMENT),
    ];
    let mut all = few.clone();
    all.extend([
        column("currency", Scalar::String),
        column("source", Scalar::String),
        column("lines", lines),
        column("_etag", Scalar::String),
    ]);
    vec![
        ("5 columns", plan(few)),
        ("9 columns, an array of rows", plan(all)),
    ]
}

/// Five columns of a document with fifty fields, and all of them.
fn wide_plans() -> Plans {
    let field = |n: usize| {
        let kind = [Scalar::String, Scalar::BigInt, DECIMAL][n % 3];
        column(&format!("field{n:02}"), kind)
    };
    let few = vec![
        column("id", Scalar::String),
        field(0),
        field(13),
        field(26),
        field(45),
    ];
    let mut all = vec![column("id", Scalar::String), column("customerId", Scalar::String)];
    all.extend((0..48).map(field));
    vec![("5 of 50 columns", plan(few)), ("50 columns", plan(all))]
}

fn split() -> Split {
    Split {
        ordinal: 3,
        container_rid: "AAAAAYAAAAE=".into(),
        min: "10000000000000000000000000000000".into(),
        max: "20000000000000000000000000000000".into(),
        start: Start::Beginning,
        continuation: Some(format!("c1.{}", "A".repeat(400))),
        mode: Mode::LatestVersion,
        stop: Stop::Never,
        then: None,
        fingerprint: None,
    }
}

fn splits(c: &mut Criterion) {
    let split = split();
    c.bench_function("split bytes, encode and decode", |b| {
        b.iter(|| black_box(Split::decode(&black_box(&split).encode()).unwrap()));
    });
}

/// A service that answers at once: what is left is the sink's own work, the request's body and answer included.
struct Instant {
    definition: PartitionKeyDefinition,
    answers: Vec<String>,
}

impl Service for Instant {
    fn key_definition(&self) -> &PartitionKeyDefinition {
        &self.definition
    }

    fn partitions(&self, _refresh: bool) -> BoxFuture<'_, Result<Vec<(String, EffectivePartitionKey)>>> {
        let ranges = [
            "",
            "10000000000000000000000000000000",
            "20000000000000000000000000000000",
            "30000000000000000000000000000000",
        ];
        let ranges = ranges
            .iter()
            .enumerate()
            .map(|(i, min)| (i.to_string(), EffectivePartitionKey::try_from(*min).unwrap()));
        let ranges = ranges.collect();
        Box::pin(async move { Ok(ranges) })
    }

    fn bulk<'a>(
        &'a self,
        operations: &'a [Operation],
        _range: &'a str,
    ) -> BoxFuture<'a, Result<Vec<OperationResult>>> {
        Box::pin(async move {
            black_box(bulk_body(operations));
            bulk_results(
                self.answers[operations.len()].as_bytes(),
                operations.iter().map(|op| (op.kind.asked(), op.fate)),
                "activity",
                Fate::NotCarriedOut,
            )
        })
    }

    fn point<'a>(&'a self, _operation: &'a Operation) -> BoxFuture<'a, OperationResult> {
        Box::pin(async { OperationResult::ok(200, 1.0) })
    }
}

/// The result of an upsert in the answer to a bulk request.
const RESULT: &str =
    r#"{"statusCode":200,"requestCharge":6.29,"eTag":"\"00000000-0000-0000-0000-000000000000\""}"#;

fn answer(c: &mut Criterion) {
    let answer = format!("[{}]", vec![RESULT; 100].join(","));
    let mut group = c.benchmark_group("answer to results");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 upserts", |b| {
        b.iter(|| {
            let asked = [(Asked::Upsert, Fate::NotCarriedOut); 100].into_iter();
            let results = bulk_results(
                black_box(answer.as_bytes()),
                asked,
                "activity",
                Fate::NotCarriedOut,
            );
            black_box(results.unwrap().len())
        });
    });
    group.finish();
}

fn sink(c: &mut Criterion) {
    const BATCH: usize = 500;
    let answers = (0..=100)
        .map(|n| format!("[{}]", vec![RESULT; n].join(",")))
        .collect();
    let service = Box::new(Instant {
        definition: PartitionKeyDefinition::from("/customerId"),
        answers,
    });
    let options = [
        ("endpoint", "http://localhost"),
        ("database", "d"),
        ("container", "c"),
        ("auth.secret-key", "aw=="),
    ];
    let options: Vec<_> = options
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = Config::parse(Role::Sink, &options).unwrap();
    let sink = Sink::over(service, None, config, runtime.handle(), 1);
    let sink = runtime.block_on(sink).unwrap();
    let rows: Vec<_> = (0..BATCH)
        .map(|i| {
            (
                document(i),
                format!("id-{i}"),
                format!("[\"customer-{:05}\"]", i % 64),
            )
        })
        .collect();
    let operations: Vec<_> = rows
        .iter()
        .map(|(document, id, key)| NewOperation {
            kind: OperationKind::Upsert,
            id,
            partition_key: key,
            if_match: "",
            document: document.as_bytes(),
        })
        .collect();
    let frame = encode_operations(&operations);
    let mut group = c.benchmark_group("submit and complete");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut submission = 0;
    group.bench_function("500 upserts", |b| {
        b.iter(|| {
            sink.submit(submission, frame.clone()).unwrap();
            submission += 1;
            let completions = sink.poll(Duration::from_secs(5)).unwrap();
            assert_eq!(completions.len(), 1);
            black_box(encode_completions(sink.room(), &completions));
        });
    });
    group.finish();
}

criterion_group!(benches, page, documents, splits, answer, sink);
criterion_main!(benches);
