//! Flink SQL on the full distribution: a session for the user, and the check that the statements of `infra/sql` do what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use crate::build::{self, Flink, Sql};
use crate::cluster::{Cluster, Layout};
use crate::pipeline::{account_environment, local_account};
use crate::process::{attend, free_port, get_json, output, sleep, tail, Processes};
use crate::root;

/// What the statements have in the place of an account, and what is put there.
const ENDPOINT: &str = "'endpoint' = 'https://ACCOUNT.documents.azure.com:443/'";
const DATABASE: &str = "'database' = 'shop'";
const DEFAULT_DATABASE: &str = "'default-database' = 'shop'";
const CREDENTIAL: &str = "'auth.key-file' = '/run/secrets/cosmos-key'";

/// The containers of the statements. All have the same partition key.
const CONTAINERS: [&str; 6] = [
    "orders",
    "open-orders",
    "open-orders-copy",
    "payments",
    "revenue",
    "letters",
];
const PARTITION_KEY: &str = "/customerId";

/// How an account other than by its key is reached: variables, and the options of a table for them.
const IDENTITY: [(&str, &str); 5] = [
    ("COSMOS_AUTH", "auth.type"),
    ("AZURE_TENANT_ID", "auth.tenant-id"),
    ("AZURE_CLIENT_ID", "auth.client-id"),
    ("AZURE_CLIENT_SECRET_FILE", "auth.client-secret-file"),
    ("AZURE_FEDERATED_TOKEN_FILE", "auth.token-file"),
];

const BATCH: &str = "SET 'execution.runtime-mode' = 'batch';\n";

/// Slots of the cluster: each job that runs takes as many as it is parallel.
const SLOTS: u32 = 8;
const CLIENT: &str = "org.apache.flink.table.client.SqlClient";
const GATEWAY: &str = "org.apache.flink.table.gateway.SqlGateway";
/// How long each condition of the check may take.
const WITHIN: Duration = Duration::from_secs(90);

/// Where the session's tables are.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Use the real account that COSMOS_URI, COSMOS_DB and COSMOS_KEY, COSMOS_KEY_FILE or COSMOS_AUTH name.
    #[arg(long)]
    account: bool,
}

/// Starts a cluster and a local account, and leaves the user in the SQL client; stops all of it when the client ends. What comes on a standard
/// input that is no terminal is carried out.
pub fn run(options: &Options) -> Result<()> {
    let ground = Ground::lay("sql", options.account)?;
    ground.create(&ground.environment)?;
    let mut processes = ground.more_processes()?;
    let cluster = ground.cluster(&mut processes, "with-jar", &ground.lib_with_jar()?)?;
    let mut client = ground.client(&cluster)?;
    println!(
        "The tables of infra/sql/tables.sql are defined; further statements are in the files beside it, and in docs/sql.md."
    );
    if std::io::stdin().is_terminal() {
        println!(
            "Ctrl-C ends a query, QUIT the session, and with it its jobs, the cluster and the local account."
        );
    }
    // It outlives the session.
    client.arg("-hist").arg(root().join("target/sql-history"));
    let status = attend(&mut client)?;
    println!("stopping what was started");
    if !status.success() {
        bail!("the SQL client ended with {status}");
    }
    Ok(())
}

/// A file of `infra/sql`, with an account in it.
fn filled(file: &str, environment: &[(String, String)]) -> Result<String> {
    let path = root().join("infra/sql").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    fill(&text, &|name| {
        let own = environment.iter().find(|(own, _)| own == name);
        let value = own
            .map(|(_, value)| value.clone())
            .or_else(|| std::env::var(name).ok());
        value.filter(|value| !value.is_empty())
    })
}

/// Puts an account into statements. Secrets stay in files.
fn fill(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let needed = |name: &str| variable(name).with_context(|| format!("{name} is not set"));
    let option = |option: &str, value: &str| format!("'{option}' = '{}'", value.replace('\'', "''"));
    let by_key = variable("COSMOS_AUTH").is_none_or(|auth| auth == "key");
    let credential = if by_key {
        option("auth.key-file", &needed("COSMOS_KEY_FILE")?)
    } else {
        if variable("AZURE_CLIENT_SECRET").is_some() && variable("AZURE_CLIENT_SECRET_FILE").is_none() {
            bail!("AZURE_CLIENT_SECRET would stand in the statements: put it into a file and name that in AZURE_CLIENT_SECRET_FILE");
        }
        let options = IDENTITY
            .iter()
            .filter_map(|(name, of_table)| Some(option(of_table, &variable(name)?)));
        options.collect::<Vec<_>>().join(",\n  ")
    };
    Ok(text
        .replace(ENDPOINT, &option("endpoint", &needed("COSMOS_URI")?))
        .replace(DATABASE, &option("database", &needed("COSMOS_DB")?))
        .replace(
            DEFAULT_DATABASE,
            &option("default-database", &needed("COSMOS_DB")?),
        )
        .replace(CREDENTIAL, &credential))
}

/// The statements of a file, one by one, without comments.
fn statements(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let all = code
        .split(";\n")
        .map(|s| s.trim().trim_end_matches(';').trim_end());
    all.filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// What a session stands on, but for the cluster.
struct Ground {
    home: PathBuf,
    built: Sql,
    /// The local account.
    processes: Processes,
    environment: Vec<(String, String)>,
}

impl Ground {
    /// Builds everything, and starts a local account unless there is a real one.
    fn lay(name: &str, account: bool) -> Result<Ground> {
        let built = build::sql()?;
        let home = root().join("target").join(name);
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("cannot clear {}", home.display()))?;
        }
        std::fs::create_dir_all(&home)?;
        let mut processes = Processes::new(home.join("logs"))?;
        let environment = if account {
            account_environment(&home)?
        } else {
            println!("starting the local account");
            let more = ["--all-versions".to_owned()];
            local_account(&built.bin, &home, &mut processes, false, &more)?.0
        };
        Ok(Ground {
            home,
            built,
            processes,
            environment,
        })
    }

    /// Processes that end before the account does.
    fn more_processes(&self) -> Result<Processes> {
        Processes::new(self.home.join("logs"))
    }

    /// The account's key.
    fn key(&self) -> Result<String> {
        let key = std::fs::read_to_string(self.home.join("account-key"))?;
        Ok(key.trim().to_owned())
    }

    /// Creates what is missing of database and containers.
    fn create(&self, environment: &[(String, String)]) -> Result<()> {
        println!("creating what is missing of database and containers");
        let mut command = self.built.binary("cosmosflink-init");
        command.args(["create", "--wait", "20"]);
        for name in CONTAINERS {
            command.arg("--container").arg(format!("{name}:{PARTITION_KEY}"));
        }
        output(command.envs(environment.iter().cloned())).map(drop)
    }

    /// The distribution with the connector in its `lib` folder.
    fn lib_with_jar(&self) -> Result<PathBuf> {
        let flink = self.home.join("flink");
        let lib = flink.join("lib");
        std::fs::create_dir_all(&lib)?;
        let distribution = &self.built.flink_lib;
        symlink(distribution.join("../bin"), flink.join("bin"))?;
        let jars = std::fs::read_dir(distribution)?.map(|entry| -> Result<PathBuf> { Ok(entry?.path()) });
        for jar in jars.chain([Ok(self.built.jar.clone())]) {
            let jar = jar?;
            symlink(&jar, lib.join(jar.file_name().context("a jar without a name")?))?;
        }
        Ok(lib)
    }

    /// Starts JobManager and TaskManager, with a folder of the home for their own.
    fn cluster(&self, processes: &mut Processes, folder: &str, lib: &Path) -> Result<Cluster> {
        println!(
            "starting Flink {}, the full distribution: a JobManager and a TaskManager",
            Flink::Distribution.version()
        );
        let layout = Layout {
            home: &self.home.join(folder),
            lib,
            slots: SLOTS,
            taskmanager: "taskmanager",
            quick_heartbeats: true,
            environment: self.environment.clone(),
        };
        let cluster = Cluster::start(processes, &layout)?;
        println!("Flink's UI: {}", cluster.rest);
        Ok(cluster)
    }

    /// The SQL client, which begins with the tables of `infra/sql/tables.sql`.
    fn client(&self, cluster: &Cluster) -> Result<Command> {
        let init = self.home.join("tables.sql");
        // A query's rows are shown between the statements, also where there is no terminal.
        let shown = "SET 'sql-client.execution.result-mode' = 'tableau';\n";
        std::fs::write(
            &init,
            shown.to_owned() + &filled("tables.sql", &self.environment)?,
        )?;
        let log = self.home.join("logs/sql-client-flink.log");
        let mut client = cluster.client("sql-client", &self.built.tools, CLIENT, &log)?;
        client.args(["embedded", "-i"]).arg(init);
        Ok(client)
    }
}

/// Runs the statements of `infra/sql` twice: through the SQL client, with the connector in Flink's `lib` folder, and through the SQL gateway on
/// a cluster that gets it by `ADD JAR`; and looks at what is in the account then.
pub fn check() -> Result<()> {
    let mut ground = Ground::lay("sql-check", false)?;
    println!("through the SQL client, with the jar in lib");
    through_the_client(&mut ground)?;
    println!("through the SQL gateway, with ADD JAR");
    through_the_gateway(&mut ground)?;
    let key = ground.key()?;
    for log in std::fs::read_dir(ground.home.join("logs"))? {
        let log = log?.path();
        // What the client shows on the terminal has the statements as they were typed.
        let typed = log.file_name().is_some_and(|name| name == TYPED);
        if !typed && std::fs::read_to_string(&log)?.contains(&key) {
            bail!("the account's key shows up in {}", log.display());
        }
    }
    Ok(())
}

/// The transcript of the SQL client.
const TYPED: &str = "sql-client.log";

/// A query of all orders whose one row is not what a terminal shows of the statement.
fn orders_of(table: &str, mark: &str) -> String {
    format!("SELECT CONCAT(CAST(COUNT(*) AS STRING), ' orders {mark}') AS found FROM {table};\n")
}

/// A table whose statement has the account's key in it, and a query of it.
fn with_the_key_in_the_statement(key: &str) -> String {
    let table = format!("CREATE TABLE told_orders WITH ('auth.secret-key' = '{key}') LIKE keyless_orders;\n");
    table + &orders_of("told_orders", "by a told key")
}

fn through_the_client(ground: &mut Ground) -> Result<()> {
    let environment = ground.environment.clone();
    ground.create(&environment)?;
    let mut processes = ground.more_processes()?;
    let cluster = ground.cluster(&mut processes, "with-jar", &ground.lib_with_jar()?)?;
    let mut command = ground.client(&cluster)?;
    command.arg("-hist").arg(ground.home.join("sql-history"));
    let input = processes.start_told("sql-client", &mut command)?;
    let log = processes.log("sql-client");
    let mut session = Client { input, log };
    let mut trial = Trial {
        ground,
        processes: &mut processes,
        cluster: &cluster,
        environment: &environment,
    };
    trial.run(&mut session)?;
    // The jar is in the lib folder already.
    let jar = trial.ground.built.jar.display().to_string();
    let key = trial.ground.key()?;
    session.say(&format!("ADD JAR '{jar}';\n"))?;
    session.say(BATCH)?;
    session.say(&orders_of("orders", "once more"))?;
    session.say(&trial.keyless_orders())?;
    session.say(&with_the_key_in_the_statement(&key))?;
    trial.wait("queries with the jar in lib and ADD JAR", |_| {
        let shown = session.shown()?;
        Ok(shown.contains("5 orders once more") && shown.contains("5 orders by a told key"))
    })?;
    // The end of its input is the end of the session.
    drop(session);
    trial.wait("the end of the SQL client", |trial| {
        let Some(status) = trial.processes.ended("sql-client")? else {
            return Ok(false);
        };
        if !status.success() {
            bail!("the SQL client ended with {status}");
        }
        Ok(true)
    })
}

fn through_the_gateway(ground: &mut Ground) -> Result<()> {
    let mut environment = ground.environment.clone();
    for (name, value) in &mut environment {
        // Apart from what the client has written.
        if name == "COSMOS_DB" {
            "gateway".clone_into(value);
        }
    }
    ground.create(&environment)?;
    let mut processes = ground.more_processes()?;
    let cluster = ground.cluster(&mut processes, "without-jar", &ground.built.flink_lib)?;
    let log = ground.home.join("logs/sql-gateway-flink.log");
    let mut command = cluster.client("sql-gateway", &ground.built.tools, GATEWAY, &log)?;
    let port = free_port()?;
    for setting in [
        "address=127.0.0.1".to_owned(),
        "bind-address=127.0.0.1".to_owned(),
        format!("port={port}"),
    ] {
        command.arg(format!("-Dsql-gateway.endpoint.rest.{setting}"));
    }
    processes.start("sql-gateway", &mut command)?;
    let mut trial = Trial {
        ground,
        processes: &mut processes,
        cluster: &cluster,
        environment: &environment,
    };
    let base = format!("http://127.0.0.1:{port}");
    trial.wait("the SQL gateway", |_| {
        Ok(get_json(&format!("{base}/v3/info"), Duration::from_secs(5)).is_ok())
    })?;
    let mut session = Gateway::open(base.clone())?;
    let jar = trial.ground.built.jar.display().to_string();
    session.say(&format!("ADD JAR '{jar}';\n"))?;
    session.say(&filled("tables.sql", &environment)?)?;
    trial.run(&mut session)?;
    // The jobs of the first session go on beside those of the second one.
    let mut second = Gateway::open(base)?;
    for _ in 0..2 {
        second.say(&format!("ADD JAR '{jar}';\n"))?;
    }
    second.say(&filled("tables.sql", &environment)?)?;
    second.say(BATCH)?;
    second.say(&orders_of("orders", "once more"))?;
    second.say(&trial.keyless_orders())?;
    let key = trial.ground.key()?;
    second.say(&with_the_key_in_the_statement(&key))?;
    let shown = second.shown()?;
    if !shown.contains("5 orders once more") || !shown.contains("5 orders by a told key") {
        bail!("the queries of a second session that adds the jar gave {shown}");
    }
    let refused = second.say("SELECT * FROM told_orders /*+ OPTIONS('scan.page-size' = 'many') */;\n");
    match refused {
        Ok(()) => bail!("an option that is no number was taken"),
        Err(error)
            if !format!("{error:#}").contains("scan.page-size") || format!("{error:#}").contains(&key) =>
        {
            bail!("the message of an option that is no number is wrong, or shows the key")
        }
        Err(_) => {}
    }
    for name in ["taskmanager", "sql-gateway"] {
        let cores = trial.cores(name)?;
        if cores != 1 {
            bail!("{name} has the core {cores} times, and not once");
        }
    }
    Ok(())
}

/// Somebody who carries out statements.
trait Session {
    /// Carries out statements, or has them carried out one after the other.
    fn say(&mut self, statements: &str) -> Result<()>;

    /// What has been shown of results so far; an error when a statement failed.
    fn shown(&self) -> Result<String>;
}

/// The SQL client, which reads statements as a user types them.
struct Client {
    input: ChildStdin,
    log: PathBuf,
}

impl Session for Client {
    fn say(&mut self, statements: &str) -> Result<()> {
        self.input.write_all(statements.as_bytes())?;
        Ok(self.input.flush()?)
    }

    fn shown(&self) -> Result<String> {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned();
        if text.contains("[ERROR]") || text.contains("Failed to initialize") {
            bail!("a statement failed:\n{}", tail(&self.log, 30));
        }
        Ok(text)
    }
}

/// A session of the SQL gateway, over its REST interface.
struct Gateway {
    base: String,
    /// Path of the session, with the version of the interface.
    session: String,
    /// Rows that queries gave, as JSON.
    rows: String,
}

impl Gateway {
    fn open(base: String) -> Result<Gateway> {
        let answer = post(&format!("{base}/v3/sessions"), &json!({}))?;
        let handle = answer["sessionHandle"]
            .as_str()
            .context("the gateway opened no session")?;
        Ok(Gateway {
            session: format!("/v3/sessions/{handle}"),
            base,
            rows: String::new(),
        })
    }

    /// Carries out one statement, and keeps its rows.
    fn carry_out(&mut self, statement: &str) -> Result<()> {
        let path = format!("{}{}/statements", self.base, self.session);
        let answer = post(&path, &json!({ "statement": statement }))?;
        let operation = answer["operationHandle"]
            .as_str()
            .context("the gateway named no operation")?;
        let mut next = format!("{}/operations/{operation}/result/0?rowFormat=JSON", self.session);
        let until = Instant::now() + WITHIN;
        loop {
            let answer = answer_of(
                ureq::get(format!("{}{next}", self.base))
                    .config()
                    .http_status_as_error(false)
                    .build()
                    .call()?,
            )?;
            for row in answer["results"]["data"].as_array().into_iter().flatten() {
                self.rows += &format!("{}\n", row["fields"]);
            }
            match answer["resultType"].as_str() {
                Some("EOS") => return Ok(()),
                Some("PAYLOAD") => {}
                _ if Instant::now() > until => bail!("no result after {} s", WITHIN.as_secs()),
                _ => sleep(Duration::from_millis(50))?,
            }
            if let Some(uri) = answer["nextResultUri"].as_str() {
                uri.clone_into(&mut next);
            }
        }
    }
}

impl Session for Gateway {
    fn say(&mut self, text: &str) -> Result<()> {
        for statement in statements(text) {
            self.carry_out(&statement)
                .with_context(|| format!("the statement failed: {statement}"))?;
        }
        Ok(())
    }

    fn shown(&self) -> Result<String> {
        Ok(self.rows.clone())
    }
}

fn post(url: &str, body: &Value) -> Result<Value> {
    answer_of(
        ureq::post(url)
            .config()
            .http_status_as_error(false)
            .build()
            .send_json(body)?,
    )
}

/// What the gateway answered. Its errors are traces of many lines.
fn answer_of(mut answer: ureq::http::Response<ureq::Body>) -> Result<Value> {
    let status = answer.status();
    let body: Value = answer.body_mut().read_json()?;
    if !status.is_success() {
        let all = body["errors"].as_array().into_iter().flatten();
        let text = all.filter_map(Value::as_str).collect::<Vec<_>>().join("\n");
        // The first cause is the last one that is named.
        let cause = text.lines().rfind(|line| line.starts_with("Caused by: "));
        bail!("the SQL gateway answers {status}: {}", cause.unwrap_or(&text));
    }
    Ok(body)
}

/// The statements of `infra/sql`, and what must come of them.
struct Trial<'a> {
    ground: &'a mut Ground,
    processes: &'a mut Processes,
    cluster: &'a Cluster,
    environment: &'a [(String, String)],
}

impl Trial<'_> {
    fn run(&mut self, session: &mut dyn Session) -> Result<()> {
        session.say("SET 'parallelism.default' = '2';\n")?;
        for file in ["open-orders.sql", "revenue.sql", "orders.sql"] {
            session.say(&filled(file, self.environment)?)?;
        }
        self.wait("the open orders, their copies and the payments", |trial| {
            session.shown()?;
            Ok(trial.open_orders_are(&["o1", "o2", "o3", "o4"])? && trial.documents("payments")?.len() == 4)
        })?;
        let first = self.documents("open-orders")?.remove("o1");
        let expected = json!({
            "id": "o1",
            "customerId": "c1",
            "status": "open",
            "amount": 12.5,
            "at": "2026-01-01T10:00:00Z",
            "address": {"city": "Kiel", "zip": 24103},
        });
        if first.as_ref() != Some(&expected) {
            bail!("the first open order is {first:?} and not {expected}");
        }
        session.say(&filled("later.sql", self.environment)?)?;
        self.wait("the deletes, in the copy too", |trial| {
            session.shown()?;
            trial.open_orders_are(&["o1", "o4"])
        })?;
        let merged = self.documents("orders")?.remove("o2").unwrap_or_default();
        let (status, city) = (&merged["status"], &merged["address"]["city"]);
        if (status, city) != (&json!("shipped"), &json!("Bonn")) {
            bail!("the order of which one column was written is {merged}");
        }
        let mut revenue = BTreeMap::new();
        let expected = [
            ("c1-10:00", "2026-01-01T10:00:00", 2.0, 17.51),
            ("c1-10:01", "2026-01-01T10:01:00", 1.0, 8.0),
            ("c2-10:00", "2026-01-01T10:00:00", 1.0, 99.99),
        ];
        self.wait("the windows", |trial| {
            session.shown()?;
            revenue = trial.documents("revenue")?;
            Ok(revenue.len() >= expected.len())
        })?;
        let found: Vec<_> = revenue
            .iter()
            .map(|(id, window)| {
                (
                    id.as_str(),
                    window["since"].as_str().unwrap_or_default(),
                    window["payments"].as_f64().unwrap_or_default(),
                    window["amount"].as_f64().unwrap_or_default(),
                )
            })
            .collect();
        if found != expected {
            bail!("the windows are {found:?} and not {expected:?}");
        }
        for file in ["versions.sql", "totals.sql"] {
            session.say(&filled(file, self.environment)?)?;
        }
        // What each version came by, and the sum of the five orders.
        self.wait("the results of the queries", |_| {
            let shown = session.shown()?;
            Ok(shown.contains("upsert") && shown.contains("1233.5"))
        })?;
        session.say(&filled("lookup.sql", self.environment)?)?;
        self.wait("the payments with their orders", |_| {
            let shown = session.shown()?;
            let pairs = ["p1 pays o1", "p2 pays o3", "p3 pays o2"];
            Ok(pairs.iter().all(|pair| shown.contains(pair)))
        })?;
        session.say(&filled("catalog.sql", self.environment)?)?;
        self.wait("the container that the catalog has created", |trial| {
            session.shown()?;
            // Before the statement was carried out there is none.
            let large = trial.documents("large-orders").unwrap_or_default();
            Ok(large.keys().eq(["o4", "o5"])
                && large["o4"]["city"] == "Jena"
                && large["o5"]["amount"] == 416.0)
        })?;
        let shown = session.shown()?;
        for expected in ["open-orders-copy", "PRI(id, customerId)"] {
            if !shown.contains(expected) {
                bail!("the catalog shows no {expected}");
            }
        }
        session.say(&filled("letters.sql", self.environment)?)?;
        self.wait("the job that keeps aside what does not fit", |trial| {
            session.shown()?;
            let jobs = trial.cluster.get("/jobs/overview")?;
            let mut jobs = jobs["jobs"].as_array().into_iter().flatten();
            let name = |job: &Value| job["name"].as_str().unwrap_or_default().ends_with(".letters");
            Ok(jobs.any(|job| name(job) && job["state"] == "FINISHED"))
        })
    }

    /// The orders as a table that lacks its key.
    fn keyless_orders(&self) -> String {
        let value = |name: &str| {
            let found = self.environment.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        format!(
            "CREATE TABLE keyless_orders (id STRING, amount DECIMAL(20, 2)) WITH ('connector' = 'cosmosdb', 'endpoint' = '{}', \
             'database' = '{}', 'container' = 'orders');\n",
            value("COSMOS_URI"),
            value("COSMOS_DB")
        )
    }

    /// How many files a process has the core loaded from.
    fn cores(&self, name: &str) -> Result<usize> {
        let pid = self
            .processes
            .pid(name)
            .with_context(|| format!("{name} does not run"))?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let of_the_core = maps
            .lines()
            .filter(|line| line.contains("/cosmosflink-") && line.contains(".so"));
        // Address, rights, offset, device, number of the file, path.
        let files: BTreeSet<_> = of_the_core
            .filter_map(|line| line.split_whitespace().nth(4))
            .collect();
        Ok(files.len())
    }

    /// Whether these orders are open, and the copies are the same documents.
    fn open_orders_are(&self, ids: &[&str]) -> Result<bool> {
        let open = self.documents("open-orders")?;
        Ok(open.keys().eq(ids) && self.documents("open-orders-copy")? == open)
    }

    /// The documents of a container by their ids.
    fn documents(&self, container: &str) -> Result<BTreeMap<String, Value>> {
        let mut command = self.ground.built.binary("cosmosflink-init");
        command.args(["documents", "--container", container]);
        let printed = output(command.envs(self.environment.iter().cloned()))?;
        let documents = printed.lines().map(|line| -> Result<(String, Value)> {
            let document: Value = serde_json::from_str(line)?;
            Ok((document["id"].as_str().unwrap_or_default().to_owned(), document))
        });
        documents.collect()
    }

    /// Waits for something, as long as nothing has failed.
    fn wait(&mut self, what: &str, mut come: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !come(self)? {
            self.ground.processes.check()?;
            self.processes.check()?;
            let jobs = self.cluster.get("/jobs/overview")?;
            let late = began.elapsed() > WITHIN;
            for job in jobs["jobs"].as_array().into_iter().flatten() {
                let id = job["jid"].as_str().unwrap_or_default();
                if job["state"] == "FAILED" || late {
                    if let Some(why) = self.cluster.failure(id) {
                        bail!("{} is {}: {why}", job["name"], job["state"]);
                    }
                }
            }
            if late {
                bail!("{what}: not there after {} s", WITHIN.as_secs());
            }
            sleep(Duration::from_millis(200))?;
        }
        println!("{what}: after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 10] = [
        "tables.sql",
        "open-orders.sql",
        "revenue.sql",
        "orders.sql",
        "later.sql",
        "versions.sql",
        "totals.sql",
        "lookup.sql",
        "letters.sql",
        "catalog.sql",
    ];

    fn file(name: &str) -> String {
        std::fs::read_to_string(root().join("infra/sql").join(name)).unwrap()
    }

    fn account(name: &str) -> Option<String> {
        let value = match name {
            "COSMOS_URI" => "http://127.0.0.1:1/",
            "COSMOS_DB" => "it's",
            "COSMOS_KEY_FILE" => "/key",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_statements_of_the_page_are_the_ones_that_run() {
        let page = std::fs::read_to_string(root().join("docs/sql.md")).unwrap();
        let blocks: Vec<_> = page.split("```sql\n").skip(1).collect();
        let shown: Vec<_> = blocks
            .iter()
            .flat_map(|block| statements(block.split_once("```").unwrap().0))
            .collect();
        let run: Vec<_> = FILES.iter().flat_map(|name| statements(&file(name))).collect();
        for statement in &shown {
            assert!(run.contains(statement), "not in infra/sql:\n{statement}");
        }
        for statement in &run {
            assert!(shown.contains(statement), "not in docs/sql.md:\n{statement}");
        }
    }

    #[test]
    fn every_file_is_run() {
        let mut found: Vec<_> = std::fs::read_dir(root().join("infra/sql"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut run = FILES.to_vec();
        run.sort_unstable();
        assert_eq!(found, run);
    }

    #[test]
    fn an_account_is_put_in_everywhere() {
        let text = fill(&file("tables.sql"), &account).unwrap();
        for left in ["ACCOUNT", "'shop'", "/run/secrets"] {
            assert!(!text.contains(left), "{left}");
        }
        assert!(text.contains("'database' = 'it''s',"));
        let catalog = fill(&file("catalog.sql"), &account).unwrap();
        assert!(catalog.contains("'default-database' = 'it''s',") && !catalog.contains("'shop'"));
        for container in CONTAINERS {
            assert!(
                text.contains(&format!("'container' = '{container}'")),
                "{container}"
            );
        }
    }

    #[test]
    fn an_identity_takes_the_place_of_the_key() {
        let identity = |name: &str| match name {
            "COSMOS_AUTH" => Some("managed-identity".to_owned()),
            "AZURE_CLIENT_ID" => Some("some-id".to_owned()),
            name => account(name),
        };
        let text = fill(CREDENTIAL, &identity).unwrap();
        assert_eq!(
            text,
            "'auth.type' = 'managed-identity',\n  'auth.client-id' = 'some-id'"
        );
        let secret = |name: &str| match name {
            "COSMOS_AUTH" => Some("client-secret".to_owned()),
            "AZURE_CLIENT_SECRET" => Some("hidden".to_owned()),
            name => account(name),
        };
        let refused = fill(CREDENTIAL, &secret).unwrap_err().to_string();
        assert!(refused.contains("AZURE_CLIENT_SECRET_FILE") && !refused.contains("hidden"));
    }

    #[test]
    fn statements_are_told_apart() {
        let text = "-- A comment; not one.\nSET 'a' = 'b;c';\n\nSELECT 1\n  -- Another.\n  FROM t;\n";
        assert_eq!(statements(text), ["SET 'a' = 'b;c'", "SELECT 1\n  FROM t"]);
    }
}
