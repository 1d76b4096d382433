// What the JavaScript SDK sends for the cases of tests/cases/wire.json. See ../README.md for the variables it takes.

import { readFileSync, writeFileSync } from "node:fs";
import { CosmosClient } from "@azure/cosmos";

const { COSMOS_ENDPOINT, COSMOS_KEY, SDKS_DATABASE, SDKS_CASES, SDKS_WIRE } = process.env;
const { prepare, cases } = JSON.parse(readFileSync(SDKS_CASES, "utf8"));
const client = new CosmosClient({ endpoint: COSMOS_ENDPOINT, key: COSMOS_KEY });
const container = client.database(SDKS_DATABASE).container("wire");
// As the sink asks: the documents need not come back.
const minimal = { contentResponseOnWriteEnabled: false };

const admin = (method, body) =>
  fetch(`${COSMOS_ENDPOINT}_local/requests`, { method, body: body && JSON.stringify(body) }).then((answer) => answer.json());

async function carryOut(wire) {
  switch (wire.how) {
    case "bulk":
      return container.items.executeBulkOperations(wire.operations, minimal);
    case "batch":
      return container.items.batch(wire.operations, wire.partitionKey, minimal);
    case "patch":
      // Takes the option in bulk and batches alone.
      return container.item(wire.id, wire.partitionKey).patch(wire.resourceBody);
    case "read-many": {
      // It has no call of its own for this.
      const operations = wire.documents.map((key) => ({ operationType: "Read", ...key }));
      return container.items.executeBulkOperations(operations);
    }
    default:
      throw new Error(`there is no way to carry out '${wire.how}'`);
  }
}

for (const document of prepare) await container.items.upsert(document);
await admin("POST", { headers: ["*"], bodies: true });
const lines = [];
for (const wire of cases) {
  await admin("DELETE");
  await carryOut(wire);
  const { requests } = await admin("GET");
  lines.push(`${JSON.stringify({ name: wire.name, requests })}\n`);
}
writeFileSync(SDKS_WIRE, lines.join(""));
await admin("POST", { headers: [] });
