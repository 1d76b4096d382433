//! Documents that become rows: by the core, and by Flink's own format for JSON. In the JVM alone, and on a TaskManager.

use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use serde_json::Value;

use crate::bench::{
    add, compile, flink, plain_loop, read_so_far, Measured, Options, Program, BYTES_OF_PEERS, CONTAINER,
};
use crate::build::{self, Flink, Variant};
use crate::pipeline::{Pipeline, Setup};
use crate::process::run as run_command;
use crate::root;
use crate::speed::{self, Sheet};

/// What the TaskManager does with the documents, and what that is called.
const WAYS: [(&str, &str); 4] = [
    ("raw", "documents as they are"),
    ("rows", "rows of the core"),
    ("json", "flink-json"),
    ("binary", "flink-json, as binary rows"),
];

/// How often a container is read at once, so that a job is not through before it has warmed up.
const TIMES: u64 = 6;

/// Measures both, in one run.
pub fn run(options: &Options) -> Result<()> {
    let alone = match options.only_job {
        true => String::new(),
        false => alone(options)?,
    };
    let on_a_taskmanager = on_a_taskmanager(options)?;
    let whole = !options.only_job && !options.quick && options.bytes.is_empty();
    if !options.no_docs && whole {
        let text = format!(
            "`cargo xtask bench --rows --runs {runs}`. In the JVM alone (JMH, `java-shim/benches`), a page of a thousand documents: the core's part over the\n\
             boundary and back, against flink-json's streaming parser, and that with `RowDataSerializer.toBinaryRow` behind it, which makes the bytes that the core\n\
             makes at once. The serial collector works in the thread that is measured. Both make equal rows, which is looked at first.\n\n{alone}\n\
             On a TaskManager, parallelism 2: five columns of the orders of a container into nothing, the container six times at once, of which the second half is\n\
             measured; CPU of the whole process, in turns, median of {runs} runs. What is beyond the documents as they are is what making rows of them costs.\n\n\
             {on_a_taskmanager}",
            runs = options.runs,
        );
        speed::record("rows", &text)?;
    }
    Ok(())
}

/// JMH.
fn alone(options: &Options) -> Result<String> {
    build::preflight()?;
    build::account_and_library()?;
    let arguments = match options.quick {
        true => "-Dbenches.arguments=RowsBenchmark -wi 2 -i 2 -w 1 -r 1",
        false => "-Dbenches.arguments=RowsBenchmark",
    };
    {
        let _lock = build::lock()?;
        run_command(&mut build::maven(&[
            "-q",
            "-Pbenches",
            "-pl",
            "benches",
            "-am",
            "verify",
            "-DskipTests",
            "-Dbenches.skip=false",
            arguments,
        ]))?;
    }
    let file = root().join("java-shim/benches/target/results.json");
    let about = || format!("cannot read {}", file.display());
    let results: Vec<Value> =
        serde_json::from_slice(&std::fs::read(&file).with_context(about)?).with_context(about)?;
    let mut sheet = Sheet::new(&[
        "bytes",
        "columns",
        "core, ns per document",
        "flink-json",
        "times",
        "with toBinaryRow",
        "times",
        "bytes allocated per document",
        "flink-json",
        "with toBinaryRow",
    ]);
    for bytes in ["430", "1024", "10240"] {
        for columns in ["5", "all"] {
            let of = |name: &str| -> Result<(f64, f64)> {
                let found = results.iter().find(|result| {
                    let is = result["benchmark"].as_str().unwrap_or_default().ends_with(name);
                    is && result["params"]["bytes"] == bytes && result["params"]["columns"] == columns
                });
                let found = found.with_context(|| format!("{name} of {bytes} bytes was not measured"))?;
                let score = found["primaryMetric"]["score"].as_f64();
                let allocated = found["secondaryMetrics"].as_object().and_then(|metrics| {
                    let (_, metric) = metrics
                        .iter()
                        .find(|(name, _)| name.ends_with("gc.alloc.rate.norm"))?;
                    metric["score"].as_f64()
                });
                score
                    .zip(allocated)
                    .with_context(|| format!("no score in {found}"))
            };
            let (core, json, binary) = (of(".core")?, of(".flinkJson")?, of(".flinkJsonBinary")?);
            sheet.row(&[
                bytes.to_owned(),
                columns.to_owned(),
                format!("{:.0}", core.0),
                format!("{:.0}", json.0),
                format!("{:.1}", json.0 / core.0),
                format!("{:.0}", binary.0),
                format!("{:.1}", binary.0 / core.0),
                format!("{:.0}", core.1),
                format!("{:.0}", json.1),
                format!("{:.0}", binary.1),
            ]);
        }
    }
    Ok(sheet.print())
}

fn on_a_taskmanager(options: &Options) -> Result<String> {
    let sizes = match options.bytes.as_slice() {
        [] => &Options::SIZES,
        sizes => sizes,
    };
    let mut sheet = Sheet::new(&[
        "bytes",
        "",
        "us of CPU per document",
        "beyond the documents as they are",
        "times ours",
        "documents per s",
        "peak memory, MiB",
    ]);
    for &size in sizes {
        let medians = compared(options, size)?;
        let micros = medians.map(|m| 1e6 / m.per_cpu_second());
        let beyond = micros.map(|us| us - micros[0]);
        for (i, (_, who)) in WAYS.iter().enumerate() {
            let (us, times) = match i {
                0 => (String::new(), String::new()),
                _ => (
                    format!("{:.2}", beyond[i]),
                    // Rows may cost less than the documents that they are made of: they are shorter, and copied like those.
                    match beyond[1] > 0.0 {
                        true => format!("{:.1}", beyond[i] / beyond[1]),
                        false => String::new(),
                    },
                ),
            };
            sheet.row(&[
                size.to_string(),
                (*who).to_owned(),
                format!("{:.2}", micros[i]),
                us,
                times,
                format!("{:.0}", medians[i].documents / medians[i].seconds),
                format!("{:.0}", medians[i].peak_mib),
            ]);
        }
    }
    Ok(sheet.print())
}

/// All ways with documents of one size, in turns on one cluster.
fn compared(options: &Options, size: usize) -> Result<[Measured; 4]> {
    let sql = build::sql()?;
    let mut pipeline = Pipeline::launch(&Setup {
        quick_heartbeats: false,
        // With the planner.
        flink: Flink::Distribution,
        ..Setup::new("bench-rows", 2, &[Variant::Java])
    })?;
    let jar = rows_jar(&pipeline, &sql.jar)?;
    let written = options.documents.min((BYTES_OF_PEERS / size.max(1)) as u64);
    println!("{written} documents of {size} bytes");
    plain_loop(
        &pipeline.built.bin,
        &pipeline.environment,
        "write",
        (written, written, size),
    )?;
    let mut results = WAYS.map(|_| Vec::new());
    for _ in 0..options.runs {
        for ((way, _), runs) in WAYS.iter().zip(&mut results) {
            let program = Program {
                jar: &jar,
                class: "RowsJob",
            };
            let half = written * TIMES / 2;
            println!("  {way}");
            let arguments = [way, CONTAINER, &TIMES.to_string()];
            runs.push(flink(
                &mut pipeline,
                program,
                (half, half),
                &arguments,
                read_so_far,
            )?);
        }
    }
    pipeline.processes.stop();
    if results.iter().any(Vec::is_empty) {
        bail!("--runs is 0");
    }
    Ok(results.map(Measured::median))
}

/// The jar for SQL with the job in it.
fn rows_jar(pipeline: &Pipeline, sql: &std::path::Path) -> Result<PathBuf> {
    let (classes, jar) = (
        pipeline.home().join("rows-classes"),
        pipeline.home().join("rows.jar"),
    );
    compile(pipeline, &["flink/RowsJob"], sql, &classes)?;
    std::fs::copy(sql, &jar)?;
    add(&jar, "uf", &classes)?;
    Ok(jar)
}
