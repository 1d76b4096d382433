// What a team would write with the vendor's SDK for JavaScript: bulk.mjs CONTAINER WARM COUNT DISTINCT BYTES KEYS upserts DISTINCT orders of about as many
// bytes again and again through executeBulkOperations, some thousand with each call. The first WARM are not measured. Prints one line of
// JSON: documents, CPU seconds of the process, seconds, peak of resident memory in MiB. The account is COSMOS_URI, COSMOS_KEY_FILE and COSMOS_DB.

import { readFileSync } from "node:fs";
import { CosmosClient } from "@azure/cosmos";

// About the bytes of a document without its lines, and those of a line and its comma, as in the plain loop.
const BARE = 175;
const LINE = 61;
const CALL = 5000;

const [name, ...numbers] = process.argv.slice(2);
const [warm, count, distinct, bytes, keys] = numbers.map(Number);
const client = new CosmosClient({
  endpoint: process.env.COSMOS_URI,
  key: readFileSync(process.env.COSMOS_KEY_FILE, "utf8").trim(),
});
const container = client.database(process.env.COSMOS_DB).container(name);
const lines = Array.from({ length: Math.floor(Math.max(0, bytes - BARE) / LINE) }, () => (
  { sku: "sku-004711", quantity: 2, price: 19.99, gift: false }));

function upsert(i) {
  const customerId = `customer-${String(i % keys).padStart(5, "0")}`;
  return {
    operationType: "Upsert",
    partitionKey: customerId,
    resourceBody: {
      id: `order-${String(i).padStart(12, "0")}`, customerId, amount: (i % 900) + (i % 100) / 100, currency: "EUR",
      createdAt: "2026-11-24T10:15:30.123Z", source: "eu-west", lines,
    },
  };
}

async function write(total) {
  for (let from = 0; from < total; from += CALL) {
    const size = Math.min(CALL, total - from);
    const operations = Array.from({ length: size }, (_, n) => upsert((from + n) % distinct));
    const results = await container.items.executeBulkOperations(operations, { contentResponseOnWriteEnabled: false });
    const failed = results.find(({ response }) => !(response?.statusCode < 300));
    if (failed) throw new Error(`an operation was not carried out: ${failed.error ?? failed.response?.statusCode}`);
  }
}

await write(warm);
const began = performance.now();
const before = process.cpuUsage();
await write(count);
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({
  documents: count,
  cpuSeconds: (user + system) / 1e6,
  seconds: (performance.now() - began) / 1e3,
  peakMib: process.resourceUsage().maxRSS / 1024,
}));
client.dispose();
process.exit(0);
