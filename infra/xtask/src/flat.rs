//! What a document costs the core, by how many splits and how many documents there are.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::bench::{measured, Measured, Options};
use crate::pipeline::local_account;
use crate::process::Processes;
use crate::speed::{self, Sheet};
use crate::{build, root};

/// Physical partitions of the containers.
const SPLITS: [u32; 3] = [1, 10, 100];

/// Documents of the containers.
const DOCUMENTS: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Partition keys: enough that all partitions have about as many documents.
const KEYS: u64 = 5_000;

/// Fills a container for each number of splits and of documents, and reads each again and again through the core, in turns.
pub fn run(options: &Options) -> Result<()> {
    build::cargo()?;
    let (bin, home) = (root().join("target/release"), root().join("target/bench-flat"));
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;
    let mut processes = Processes::new(home.join("logs"))?;
    let all = || {
        SPLITS
            .iter()
            .flat_map(|&splits| DOCUMENTS.map(|documents| (splits, documents)))
    };
    let containers: Vec<_> = all()
        .map(|(splits, documents)| format!("--container={}:/customerId:{splits}", name(splits, documents)))
        .collect();
    let (environment, _) = local_account(&bin, &home, &mut processes, false, &containers)?;
    for (splits, documents) in all() {
        plain(
            &bin,
            &environment,
            "write",
            &name(splits, documents),
            documents,
            options,
        )?;
    }
    let mut cells: Vec<_> = all()
        .map(|(splits, documents)| (splits, documents, Vec::new()))
        .collect();
    for _ in 0..options.runs {
        for (splits, documents, runs) in &mut cells {
            let container = name(*splits, *documents);
            runs.push(plain(
                &bin,
                &environment,
                "feed",
                &container,
                options.documents.max(*documents),
                options,
            )?);
        }
    }
    processes.stop();
    let mut sheet = Sheet::new(&[
        "splits",
        "documents",
        "documents of a split",
        "us of CPU per document",
        "peak memory, MiB",
    ]);
    for (splits, documents, runs) in cells {
        let median = Measured::median(runs);
        sheet.row(&[
            splits.to_string(),
            documents.to_string(),
            (documents / u64::from(splits)).to_string(),
            format!("{:.2}", 1e6 / median.per_cpu_second()),
            format!("{:.0}", median.peak_mib),
        ]);
    }
    let markdown = sheet.print();
    if !options.no_docs && options.bytes.is_empty() {
        let text = format!(
            "`cargo xtask bench --flat --runs {} --documents {}`: the core alone, over http, reads each container from the beginning to its end again and\n\
             again, all its splits at once, in pages of `scan.page-size`; after so many documents to warm up as many are measured, median of {} runs\n\
             in turns. CPU is that of the whole process. Reading a split from its beginning to its end takes two requests at least, however few documents it has:\n\
             where it has less than a page of them, the requests are what is measured.\n\n{markdown}",
            options.runs, options.documents, options.runs
        );
        speed::record("flat", &text)?;
    }
    Ok(())
}

fn name(splits: u32, documents: u64) -> String {
    format!("flat-{splits}-{documents}")
}

fn plain(
    bin: &Path,
    environment: &[(String, String)],
    task: &str,
    container: &str,
    count: u64,
    options: &Options,
) -> Result<Measured> {
    let mut command = Command::new(bin.join("cosmosflink-bench"));
    command
        .args([task, "--container", container])
        .args(["--count", &count.to_string()])
        .args(["--bytes", &options.size().to_string()])
        .args(["--keys", &KEYS.to_string()])
        .envs(environment.to_vec());
    measured(&format!("{task} {container}"), &mut command)
}
