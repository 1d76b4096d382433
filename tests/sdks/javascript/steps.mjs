// The JavaScript SDK against an account, step by step. See ../README.md for the variables it takes.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { BulkOperationType, ChangeFeedStartFrom, CosmosClient, PartitionKeyKind } from "@azure/cosmos";

const { COSMOS_ENDPOINT, COSMOS_KEY, SDKS_DATABASE, SDKS_OURS, SDKS_STORED, SDKS_FEED } = process.env;
const client = new CosmosClient({ endpoint: COSMOS_ENDPOINT, key: COSMOS_KEY });

const failures = [];
let number = 0;
let passed = 0;

async function step(name, body) {
  number += 1;
  try {
    await body();
    passed += 1;
  } catch (error) {
    failures.push(`${number} ${name}`);
    console.error(`step ${number}, ${name}: ${error.stack ?? JSON.stringify(error)}`);
  }
}

/** The error of a call that must fail with this status. */
async function fails(status, call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    assert.equal(Number(error.code ?? error.statusCode), status, `${error.code}: ${error.message}`);
    return error;
  }
  // Reads of what is not there resolve with the status.
  assert.equal(answer.statusCode, status);
  return answer;
}

const system = new Set(["_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"]);
const bare = (document) => Object.fromEntries(Object.entries(document).filter(([name]) => !system.has(name)));
const byId = (documents) => documents.map(bare).sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));

// What each container must hold at the end, by container and by key and id.
const stored = new Map();
const place = (container, key, id) => JSON.stringify([container, key, id]);
const store = (container, key, document) => stored.set(place(container, key, document.id), { container, document });
const forget = (container, key, id) => stored.delete(place(container, key, id));
const inOrders = () => [...stored.values()].filter((s) => s.container === "orders").map((s) => s.document);

const everything = async (iterator) => (await iterator.fetchAll()).resources;
const value = async (container, query, options) => (await everything(container.items.query(query, options)))[0];

let database;
let orders;
let tenants;

await step("create a database", async () => {
  const answer = await client.databases.create({ id: SDKS_DATABASE });
  assert.equal(answer.statusCode, 201);
  database = answer.database;
});
await step("the same database again is a conflict", async () => {
  await fails(409, () => client.databases.create({ id: SDKS_DATABASE }));
  const { database: same } = await client.databases.createIfNotExists({ id: SDKS_DATABASE });
  assert.equal((await same.read()).resource.id, SDKS_DATABASE);
});
await step("create containers", async () => {
  const answer = await database.containers.create({ id: "orders", partitionKey: { paths: ["/pk"] }, throughput: 1000 });
  assert.equal(answer.statusCode, 201);
  orders = answer.container;
  const levels = { paths: ["/tenant", "/user"], kind: PartitionKeyKind.MultiHash, version: 2 };
  tenants = (await database.containers.create({ id: "tenants", partitionKey: levels })).container;
});
await step("the same container again is a conflict, its definition can be read", async () => {
  await fails(409, () => database.containers.create({ id: "orders", partitionKey: { paths: ["/pk"] } }));
  assert.deepEqual((await orders.read()).resource.partitionKey.paths, ["/pk"]);
  const names = (await database.containers.readAll().fetchAll()).resources.map((c) => c.id).sort();
  assert.deepEqual(names, ["orders", "tenants"]);
});
await step("a container that is not there is not found", async () => {
  await fails(404, () => database.container("nowhere").read());
});

const first = { id: "o-1", pk: "a", amount: 10, status: "new", tags: ["x", "y"], nested: { deep: { n: 1 } } };
await step("create a document", async () => {
  const { statusCode, resource, requestCharge } = await orders.items.create(first);
  assert.equal(statusCode, 201);
  assert.deepEqual(bare(resource), first);
  assert.ok(requestCharge > 0 && resource._etag && resource._ts > 0);
  store("orders", ["a"], first);
});
await step("the same document again is a conflict", () => fails(409, () => orders.items.create(first)));
await step("read a document", async () => {
  assert.deepEqual(bare((await orders.item("o-1", "a").read()).resource), first);
});
await step("a document that is not there, or under another key, is not found", async () => {
  await fails(404, () => orders.item("none", "a").read());
  await fails(404, () => orders.item("o-1", "b").read());
});
await step("upsert writes and overwrites", async () => {
  const document = { id: "o-2", pk: "a", amount: 20, status: "new" };
  assert.equal((await orders.items.upsert(document)).statusCode, 201);
  const second = { ...document, amount: 21, added: null };
  assert.equal((await orders.items.upsert(second)).statusCode, 200);
  store("orders", ["a"], second);
});
await step("replace takes the place of the whole document", async () => {
  const document = { id: "o-2", pk: "a", amount: 22, status: "paid" };
  assert.equal((await orders.item("o-2", "a").replace(document)).statusCode, 200);
  assert.deepEqual(bare((await orders.item("o-2", "a").read()).resource), document);
  store("orders", ["a"], document);
});
await step("replace what is not there is not found", async () => {
  await fails(404, () => orders.item("none", "a").replace({ id: "none", pk: "a" }));
});
await step("replace with the ETag of what was read", async () => {
  const { resource } = await orders.item("o-2", "a").read();
  const document = { ...bare(resource), amount: 23 };
  const condition = { type: "IfMatch", condition: resource._etag };
  await orders.item("o-2", "a").replace(document, { accessCondition: condition });
  store("orders", ["a"], document);
  const error = await fails(412, () => orders.item("o-2", "a").replace(document, { accessCondition: condition }));
  assert.ok(error);
});
await step("delete and upsert with an old ETag are refused", async () => {
  const condition = { type: "IfMatch", condition: '"00000000-0000-0000-0000-000000000000"' };
  await fails(412, () => orders.item("o-2", "a").delete({ accessCondition: condition }));
  await fails(412, () => orders.items.upsert({ id: "o-2", pk: "a" }, { accessCondition: condition }));
});
await step("read again only if it has changed", async () => {
  const { resource } = await orders.item("o-2", "a").read();
  const condition = { type: "IfNoneMatch", condition: resource._etag };
  const answer = await orders.item("o-2", "a").read({ accessCondition: condition }).catch((error) => error);
  assert.equal(Number(answer.statusCode ?? answer.code), 304);
});
await step("delete, and again", async () => {
  await orders.items.create({ id: "o-3", pk: "a" });
  assert.equal((await orders.item("o-3", "a").delete()).statusCode, 204);
  await fails(404, () => orders.item("o-3", "a").delete());
});
await step("patch: add, set, replace, remove, increment, move", async () => {
  const { resource } = await orders.item("o-1", "a").patch([
    { op: "add", path: "/tags/0", value: "w" },
    { op: "set", path: "/status", value: "open" },
    { op: "replace", path: "/nested/deep/n", value: 2 },
    { op: "incr", path: "/amount", value: 5 },
    { op: "add", path: "/old", value: true },
    { op: "remove", path: "/old" },
    { op: "move", from: "/nested/deep", path: "/moved" },
  ]);
  const document = { id: "o-1", pk: "a", amount: 15, status: "open", tags: ["w", "x", "y"], nested: {}, moved: { n: 2 } };
  assert.deepEqual(bare(resource), document);
  store("orders", ["a"], document);
});
await step("patch with a condition that holds", async () => {
  const condition = "from c where c.amount = 15 and c.status = 'open'";
  const operations = [{ op: "set", path: "/status", value: "held" }];
  assert.equal((await orders.item("o-1", "a").patch({ condition, operations })).resource.status, "held");
  stored.get(place("orders", ["a"], "o-1")).document.status = "held";
});
await step("patch with a condition that does not hold is refused", async () => {
  const condition = "from c where c.amount > 100";
  const operations = [{ op: "set", path: "/status", value: "wrong" }];
  await fails(412, () => orders.item("o-1", "a").patch({ condition, operations }));
  assert.equal((await orders.item("o-1", "a").read()).resource.status, "held");
});
await step("patch of what is not there, and of a path that is not, is refused", async () => {
  await fails(404, () => orders.item("none", "a").patch([{ op: "set", path: "/a", value: 1 }]));
  await fails(400, () => orders.item("o-1", "a").patch([{ op: "replace", path: "/no/such/path", value: 1 }]));
});
await step("a document beyond 2 MB is too large", async () => {
  await fails(413, () => orders.items.create({ id: "large", pk: "a", text: "x".repeat(2 * 1024 * 1024 + 1) }));
});
await step("ids with odd characters", async () => {
  const ids = ["a b", "50%", "a+b", "ü-日本-😀", "it's", 'say "x"', "a&b=c;d,e", "a@b:c|d", "~!$^()[]{}<>", "%2F"];
  for (const id of ids) {
    const document = { id, pk: "odd", odd: true };
    await orders.items.create(document);
    assert.deepEqual(bare((await orders.item(id, "odd").read()).resource), document, id);
    store("orders", ["odd"], document);
  }
  await orders.item("%2F", "odd").delete();
  forget("orders", ["odd"], "%2F");
});
await step("keys: null, missing, empty, numbers, booleans, odd text", async () => {
  for (const [n, pk] of [null, "", 0, 1.5, -7, true, false, "ünï/code ? # \\ \" '"].entries()) {
    const document = { id: `key-${n}`, pk };
    await orders.items.create(document);
    assert.deepEqual(bare((await orders.item(document.id, pk).read()).resource), document);
    store("orders", [pk], document);
  }
  const missing = { id: "key-missing", other: 1 };
  await orders.items.create(missing);
  assert.deepEqual(bare((await orders.item(missing.id, undefined).read()).resource), missing);
  store("orders", [{}], missing);
  await fails(404, () => orders.item(missing.id, null).read());
});
await step("numbers, text and depth come back as they were", async () => {
  const document = {
    id: "values", pk: "v", big: 9007199254740991, small: -0.000123, exponent: 1.5e300, zero: 0, text: "tab\tline\nü\u0000\u2028😀",
    nothing: null, list: [1, "2", [3, [4]], {}], empty: {}, none: [], truth: true,
  };
  await orders.items.create(document);
  assert.deepEqual(bare((await orders.item("values", "v").read()).resource), document);
  store("orders", ["v"], document);
});
const item = (n) => ({ id: `i-${String(n).padStart(3, "0")}`, pk: `k${n % 7}`, n, group: n % 3 === 0 ? "three" : "other", half: n / 2 });
await step("bulk: 120 creates in many partitions", async () => {
  const operations = Array.from({ length: 120 }, (_, n) => ({ operationType: BulkOperationType.Create, partitionKey: `k${n % 7}`, resourceBody: item(n) }));
  const results = await orders.items.executeBulkOperations(operations);
  for (const [n, result] of results.entries()) {
    assert.equal(result.response?.statusCode ?? result.statusCode, 201, JSON.stringify(result));
    store("orders", [`k${n % 7}`], item(n));
  }
  assert.equal(results.length, 120);
});
await step("bulk: read, upsert, replace, patch, delete", async () => {
  const results = await orders.items.executeBulkOperations([
    { operationType: BulkOperationType.Read, id: "i-001", partitionKey: "k1" },
    { operationType: BulkOperationType.Upsert, partitionKey: "k2", resourceBody: { ...item(2), group: "changed" } },
    { operationType: BulkOperationType.Replace, id: "i-003", partitionKey: "k3", resourceBody: { ...item(3), group: "changed" } },
    { operationType: BulkOperationType.Patch, id: "i-004", partitionKey: "k4", resourceBody: { operations: [{ op: "set", path: "/group", value: "changed" }] } },
    { operationType: BulkOperationType.Delete, id: "i-005", partitionKey: "k5" },
    { operationType: BulkOperationType.Patch, id: "i-006", partitionKey: "k6",
      resourceBody: { operations: [{ op: "incr", path: "/n", value: 1000 }], condition: "from c where c.n = 6" } },
  ]);
  assert.deepEqual(results.map((r) => r.response?.statusCode), [200, 200, 200, 200, 204, 200]);
  assert.deepEqual(bare(results[0].response.resourceBody), item(1));
  for (const n of [2, 3, 4]) store("orders", [`k${n}`], { ...item(n), group: "changed" });
  forget("orders", ["k5"], "i-005");
  store("orders", ["k6"], { ...item(6), n: 1006 });
});
await step("bulk: each operation has its own failure", async () => {
  const results = await orders.items.executeBulkOperations([
    { operationType: BulkOperationType.Create, partitionKey: "k1", resourceBody: item(1) },
    { operationType: BulkOperationType.Delete, id: "none", partitionKey: "k1" },
    { operationType: BulkOperationType.Upsert, partitionKey: "k1", resourceBody: item(1) },
    { operationType: BulkOperationType.Patch, id: "i-008", partitionKey: "k1",
      resourceBody: { operations: [{ op: "set", path: "/n", value: 0 }], condition: "from c where c.n > 8" } },
    { operationType: BulkOperationType.Replace, id: "i-008", partitionKey: "k1", ifMatch: '"old"', resourceBody: item(8) },
  ]);
  assert.deepEqual(results.map((r) => r.response?.statusCode ?? r.error?.code), [409, 404, 200, 412, 412]);
});
await step("bulk that asks for no content", async () => {
  const document = { id: "quiet", pk: "v", n: 1 };
  const operation = { operationType: BulkOperationType.Create, partitionKey: "v", resourceBody: document };
  const [result] = await orders.items.executeBulkOperations([operation], { contentResponseOnWriteEnabled: false });
  assert.equal(result.response.statusCode, 201);
  store("orders", ["v"], document);
});
await step("transactional batch: create, upsert, replace, patch, read, delete", async () => {
  await orders.items.create({ id: "b-0", pk: "batch", n: 0 });
  const { result, code } = await orders.items.batch([
    { operationType: "Create", resourceBody: { id: "b-1", pk: "batch", n: 1 } },
    { operationType: "Upsert", resourceBody: { id: "b-2", pk: "batch", n: 2 } },
    { operationType: "Replace", id: "b-1", resourceBody: { id: "b-1", pk: "batch", n: 11 } },
    { operationType: "Patch", id: "b-1", resourceBody: { operations: [{ op: "incr", path: "/n", value: 1 }], condition: "from c where c.n = 11" } },
    { operationType: "Read", id: "b-1" },
    { operationType: "Delete", id: "b-0" },
  ], "batch");
  assert.equal(code, 200);
  assert.deepEqual(result.map((r) => r.statusCode), [201, 201, 200, 200, 200, 204]);
  assert.equal(result[4].resourceBody.n, 12);
  store("orders", ["batch"], { id: "b-1", pk: "batch", n: 12 });
  store("orders", ["batch"], { id: "b-2", pk: "batch", n: 2 });
});
await step("transactional batch: a conflict undoes all", async () => {
  const { result } = await orders.items.batch([
    { operationType: "Create", resourceBody: { id: "b-3", pk: "batch" } },
    { operationType: "Create", resourceBody: { id: "b-1", pk: "batch" } },
    { operationType: "Upsert", resourceBody: { id: "b-4", pk: "batch" } },
  ], "batch");
  assert.deepEqual(result.map((r) => r.statusCode), [424, 409, 424]);
  await fails(404, () => orders.item("b-3", "batch").read());
});
await step("transactional batch: a patch condition that does not hold undoes all", async () => {
  const { result } = await orders.items.batch([
    { operationType: "Upsert", resourceBody: { id: "b-5", pk: "batch" } },
    { operationType: "Patch", id: "b-2", resourceBody: { operations: [{ op: "set", path: "/n", value: 0 }], condition: "from c where c.n = 3" } },
    { operationType: "Delete", id: "b-1" },
  ], "batch");
  assert.deepEqual(result.map((r) => r.statusCode), [424, 412, 424]);
  assert.equal((await orders.item("b-2", "batch").read()).resource.n, 2);
});

const isItem = "STARTSWITH(c.id, 'i-')";
const items = () => inOrders().filter((d) => d.id.startsWith("i-"));
await step("query one partition with parameters", async () => {
  const query = {
    query: "SELECT c.id, c.n FROM c WHERE c.pk = @pk AND c.n >= @least",
    parameters: [{ name: "@pk", value: "k1" }, { name: "@least", value: 50 }],
  };
  const expected = items().filter((d) => d.pk === "k1" && d.n >= 50).map(({ id, n }) => ({ id, n }));
  assert.deepEqual(byId(await everything(orders.items.query(query, { partitionKey: "k1" }))), expected);
  assert.deepEqual(byId(await everything(orders.items.query(query))), expected);
});
await step("query all partitions", async () => {
  const query = `SELECT * FROM c WHERE ${isItem} AND c["group"] IN ("three", "changed")`;
  const expected = byId(items().filter((d) => ["three", "changed"].includes(d.group)));
  assert.deepEqual(byId(await everything(orders.items.query(query))), expected);
});
await step("ORDER BY over all partitions, up and down", async () => {
  const expected = items().map((d) => d.n).sort((a, b) => a - b);
  const up = await everything(orders.items.query(`SELECT VALUE c.n FROM c WHERE ${isItem} ORDER BY c.n`));
  assert.deepEqual(up, expected);
  const down = await everything(orders.items.query(`SELECT c.n FROM c WHERE ${isItem} ORDER BY c.n DESC`));
  assert.deepEqual(down.map((d) => d.n), expected.toReversed?.() ?? [...expected].reverse());
});
await step("ORDER BY two properties", async () => {
  const rows = await everything(orders.items.query(`SELECT c["group"], c.n FROM c WHERE ${isItem} ORDER BY c["group"], c.n DESC`));
  const expected = items().map(({ group, n }) => ({ group, n })).sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : b.n - a.n));
  assert.deepEqual(rows, expected);
});
await step("pages with continuation tokens", async () => {
  const ids = [];
  let continuationToken;
  let pages = 0;
  do {
    const iterator = orders.items.query(`SELECT c.id FROM c WHERE ${isItem}`, { maxItemCount: 10, partitionKey: "k1", continuationToken });
    const page = await iterator.fetchNext();
    ids.push(...page.resources.map((d) => d.id));
    continuationToken = page.continuationToken;
    pages += 1;
  } while (continuationToken);
  assert.ok(pages >= 2, `${pages} pages`);
  assert.deepEqual(ids.sort(), items().filter((d) => d.pk === "k1").map((d) => d.id).sort());
});
await step("COUNT, SUM, AVG, MIN, MAX over all partitions", async () => {
  const numbers = items().map((d) => d.n);
  const sum = numbers.reduce((a, b) => a + b, 0);
  assert.equal(await value(orders, `SELECT VALUE COUNT(1) FROM c WHERE ${isItem}`), numbers.length);
  assert.equal(await value(orders, `SELECT VALUE SUM(c.n) FROM c WHERE ${isItem}`), sum);
  assert.equal(await value(orders, `SELECT VALUE AVG(c.n) FROM c WHERE ${isItem}`), sum / numbers.length);
  assert.equal(await value(orders, `SELECT VALUE MIN(c.n) FROM c WHERE ${isItem}`), 0);
  assert.equal(await value(orders, `SELECT VALUE MAX(c.n) FROM c WHERE ${isItem}`), 1006);
  assert.equal(await value(orders, "SELECT VALUE COUNT(1) FROM c WHERE c.id = 'nobody'"), 0);
});
await step("aggregates of one partition", async () => {
  const numbers = items().filter((d) => d.pk === "k3").map((d) => d.n);
  const options = { partitionKey: "k3" };
  assert.equal(await value(orders, "SELECT VALUE COUNT(1) FROM c", options), numbers.length);
  assert.equal(await value(orders, "SELECT VALUE MAX(c.n) FROM c", options), Math.max(...numbers));
});
await step("several aggregates by name", async () => {
  const numbers = items().map((d) => d.n);
  const row = await value(orders, `SELECT COUNT(1) AS many, MAX(c.n) AS most, MIN(c.half) AS least FROM c WHERE ${isItem}`);
  assert.deepEqual(row, { many: numbers.length, most: Math.max(...numbers), least: 0 });
});
await step("GROUP BY over all partitions", async () => {
  const rows = await everything(orders.items.query(
    `SELECT c["group"], COUNT(1) AS many, SUM(c.n) AS total, AVG(c.n) AS mean, MIN(c.n) AS least, MAX(c.n) AS most FROM c WHERE ${isItem} GROUP BY c["group"]`));
  const expected = ["changed", "other", "three"].map((group) => {
    const numbers = items().filter((d) => d.group === group).map((d) => d.n);
    const total = numbers.reduce((a, b) => a + b, 0);
    return { group, many: numbers.length, total, mean: total / numbers.length, least: Math.min(...numbers), most: Math.max(...numbers) };
  });
  assert.deepEqual(rows.sort((a, b) => (a.group < b.group ? -1 : 1)), expected);
});
await step("GROUP BY two properties, and of one value", async () => {
  const rows = await everything(orders.items.query(`SELECT c.pk, c["group"], COUNT(1) AS many FROM c WHERE ${isItem} GROUP BY c.pk, c["group"]`));
  assert.equal(rows.reduce((sum, row) => sum + row.many, 0), items().length);
  assert.equal(rows.length, new Set(items().map((d) => `${d.pk} ${d.group}`)).size);
  const keys = await everything(orders.items.query(`SELECT VALUE c.pk FROM c WHERE ${isItem} GROUP BY c.pk`));
  assert.deepEqual(keys.sort(), ["k0", "k1", "k2", "k3", "k4", "k5", "k6"]);
});
await step("DISTINCT, TOP, OFFSET and LIMIT", async () => {
  const groups = await everything(orders.items.query(`SELECT DISTINCT VALUE c["group"] FROM c WHERE ${isItem}`));
  assert.deepEqual(groups.sort(), ["changed", "other", "three"]);
  assert.equal((await everything(orders.items.query(`SELECT TOP 5 * FROM c WHERE ${isItem}`))).length, 5);
  const page = await everything(orders.items.query(`SELECT VALUE c.n FROM c WHERE ${isItem} ORDER BY c.n OFFSET 3 LIMIT 4`));
  assert.deepEqual(page, items().map((d) => d.n).sort((a, b) => a - b).slice(3, 7));
});
await step("JOIN, LIKE, functions, and a wrong query", async () => {
  assert.deepEqual(await everything(orders.items.query("SELECT VALUE t FROM c JOIN t IN c.tags WHERE c.id = 'o-1'")), ["w", "x", "y"]);
  const like = await everything(orders.items.query(`SELECT VALUE c.id FROM c WHERE c.id LIKE "i-00%" AND NOT ARRAY_CONTAINS([1, 2], c.n)`));
  assert.deepEqual(like.sort(), items().filter((d) => d.id.startsWith("i-00") && ![1, 2].includes(d.n)).map((d) => d.id));
  await fails(400, () => everything(orders.items.query("SELECT * FRM c")));
});
await step("read all documents", async () => {
  assert.deepEqual(byId(await everything(orders.items.readAll())), byId(inOrders()));
});
await step("feed ranges", async () => {
  const ranges = await orders.getFeedRanges();
  assert.ok(ranges.length >= 2, `${ranges.length} ranges`);
  const found = [];
  for (const range of ranges) {
    for (const page of await feed(ChangeFeedStartFrom.Beginning(range))) found.push(...page.result);
  }
  assert.deepEqual(byId(found), byId(inOrders()));
});

/** The pages of a change feed up to where there is nothing new. */
async function feed(changeFeedStartFrom, maxItemCount = 50, container = orders) {
  const iterator = container.items.getChangeFeedIterator({ changeFeedStartFrom, maxItemCount });
  const pages = [];
  // Over several ranges a page without changes comes from each of them.
  for (let idle = 0; idle < 8;) {
    const page = await iterator.readNext();
    idle = page.statusCode === 304 ? idle + 1 : 0;
    pages.push(page);
  }
  return pages;
}
await step("change feed from the beginning, then what is new", async () => {
  const pages = await feed(ChangeFeedStartFrom.Beginning());
  assert.deepEqual(byId(pages.flatMap((page) => page.result)), byId(inOrders()));
  assert.ok(pages.every((page) => page.result.length <= 50));
  const document = { id: "late", pk: "k1", n: -1 };
  await orders.items.create(document);
  store("orders", ["k1"], document);
  const later = await feed(ChangeFeedStartFrom.Continuation(pages.at(-1).continuationToken));
  assert.deepEqual(byId(later.flatMap((page) => page.result)), [document]);
});
await step("change feed of one key, and from now on", async () => {
  const pages = await feed(ChangeFeedStartFrom.Beginning("k1"));
  assert.deepEqual(byId(pages.flatMap((page) => page.result)), byId(inOrders().filter((d) => d.pk === "k1")));
  const now = await feed(ChangeFeedStartFrom.Now());
  assert.equal(now.flatMap((page) => page.result).length, 0);
});
await step("read many documents", async () => {
  const wanted = [["i-001", "k1"], ["i-002", "k2"], ["i-010", "k3"], ["o-1", "a"], ["it's", "odd"]];
  const operations = wanted.map(([id, partitionKey]) => ({ operationType: BulkOperationType.Read, id, partitionKey }));
  const results = await orders.items.executeBulkOperations(operations);
  assert.deepEqual(byId(results.map((r) => r.response.resourceBody)), byId(wanted.map(([id, pk]) => stored.get(place("orders", [pk], id)).document)));
});
await step("throughput: read and replace", async () => {
  const offer = (await orders.readOffer()).resource;
  assert.equal(offer.content.offerThroughput, 1000);
  offer.content.offerThroughput = 2000;
  await client.offer(offer.id).replace(offer);
  assert.equal((await orders.readOffer()).resource.content.offerThroughput, 2000);
});

await step("hierarchical keys: create, read, replace, patch, delete", async () => {
  for (const [n, [tenant, user]] of [["t1", "u1"], ["t1", "u2"], ["t2", "u1"], ["t1", null]].entries()) {
    const document = { id: `h-${n}`, tenant, user, n };
    await tenants.items.create(document);
    assert.deepEqual(bare((await tenants.item(document.id, [tenant, user]).read()).resource), document);
    store("tenants", [tenant, user], document);
  }
  await tenants.item("h-0", ["t1", "u1"]).replace({ id: "h-0", tenant: "t1", user: "u1", n: 100 });
  store("tenants", ["t1", "u1"], { id: "h-0", tenant: "t1", user: "u1", n: 100 });
  await tenants.item("h-1", ["t1", "u2"]).patch([{ op: "incr", path: "/n", value: 10 }]);
  store("tenants", ["t1", "u2"], { id: "h-1", tenant: "t1", user: "u2", n: 11 });
  await tenants.items.create({ id: "h-9", tenant: "t2", user: "u9" });
  await tenants.item("h-9", ["t2", "u9"]).delete();
  await fails(404, () => tenants.item("h-0", ["t1", "u2"]).read());
});
await step("hierarchical keys: queries of all, one and a prefix of the levels", async () => {
  const ids = async (options) => (await everything(tenants.items.query("SELECT VALUE c.id FROM c", options))).sort();
  assert.deepEqual(await ids({ partitionKey: ["t1", "u2"] }), ["h-1"]);
  assert.deepEqual(await ids({ partitionKey: ["t1"] }), ["h-0", "h-1", "h-3"]);
  assert.deepEqual(await ids({}), ["h-0", "h-1", "h-2", "h-3"]);
});
await step("hierarchical keys: bulk and batch", async () => {
  const results = await tenants.items.executeBulkOperations([
    { operationType: BulkOperationType.Upsert, partitionKey: ["t3", "u1"], resourceBody: { id: "h-b", tenant: "t3", user: "u1" } },
    { operationType: BulkOperationType.Read, id: "h-2", partitionKey: ["t2", "u1"] },
  ]);
  assert.deepEqual(results.map((r) => r.response?.statusCode), [201, 200]);
  store("tenants", ["t3", "u1"], { id: "h-b", tenant: "t3", user: "u1" });
  const { result } = await tenants.items.batch([{ operationType: "Create", resourceBody: { id: "h-c", tenant: "t3", user: "u1" } }], ["t3", "u1"]);
  assert.equal(result[0].statusCode, 201);
  store("tenants", ["t3", "u1"], { id: "h-c", tenant: "t3", user: "u1" });
});
await step("what the connector wrote is read document by document", async () => {
  const lines = readFileSync(SDKS_OURS, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const ours = client.database("ours").container("documents");
  assert.ok(lines.length > 100);
  assert.deepEqual(byId(await everything(ours.items.readAll())), byId(lines.map((line) => line.document)));
  for (const { document, key } of lines.slice(0, 20)) {
    const one = key[0] !== null && typeof key[0] === "object" ? undefined : key[0];
    assert.deepEqual(bare((await ours.item(document.id, one).read()).resource), document);
  }
});
await step("change feed of a container whose partitions have split and merged", async () => {
  const pages = await feed(ChangeFeedStartFrom.Beginning(), 50, client.database("ours").container("feed"));
  const lines = pages.flatMap((page) => page.result ?? []).map((document) => `${JSON.stringify(document)}\n`);
  assert.ok(lines.length > 100 && pages.length > 4);
  writeFileSync(SDKS_FEED, lines.join(""));
});
await step("delete a container and a database", async () => {
  const { database: short } = await client.databases.create({ id: `${SDKS_DATABASE}-short` });
  const { container } = await short.containers.create({ id: "c", partitionKey: "/pk" });
  assert.equal((await container.delete()).statusCode, 204);
  await fails(404, () => container.read());
  assert.equal((await short.delete()).statusCode, 204);
  await fails(404, () => short.read());
});

const lines = [...stored.values()].map(({ container, document }) => JSON.stringify({ database: SDKS_DATABASE, container, document }));
writeFileSync(SDKS_STORED, lines.map((line) => `${line}\n`).join(""));
for (const failure of failures) console.log(`failed: ${failure}`);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length === 0 ? 0 : 1;
