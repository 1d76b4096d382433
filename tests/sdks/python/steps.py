"""The Python SDK against an account, step by step. See ../README.md for the variables it takes."""

import json
import os
import sys
import traceback

from azure.core import MatchConditions
from azure.cosmos import CosmosClient, PartitionKey, ThroughputProperties, exceptions

DATABASE = os.environ["SDKS_DATABASE"]
SYSTEM = {"_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"}
IS_ITEM = "STARTSWITH(c.id, 'i-')"
OLD = '"00000000-0000-0000-0000-000000000000"'

client = CosmosClient(os.environ["COSMOS_ENDPOINT"], os.environ["COSMOS_KEY"])
steps = []
# What each container must hold at the end, by container and by key and id.
stored = {}


def step(name):
    def take(body):
        steps.append((name, body))
        return body

    return take


def fails(status, call):
    """Runs a call that must fail with this status."""
    try:
        call()
    except exceptions.CosmosHttpResponseError as error:
        same(error.status_code, status)
        return error
    raise AssertionError(f"did not fail with {status}")


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def bare(document):
    return {name: value for name, value in document.items() if name not in SYSTEM}


def by_id(documents):
    return sorted((bare(d) for d in documents), key=lambda d: d["id"])


def store(container, key, document):
    stored[(container, json.dumps(key), document["id"])] = document


def forget(container, key, id):
    del stored[(container, json.dumps(key), id)]


def in_orders():
    return [d for (container, _, _), d in stored.items() if container == "orders"]


def items():
    return [d for d in in_orders() if d["id"].startswith("i-")]


def item(n):
    return {"id": f"i-{n:03}", "pk": f"k{n % 7}", "n": n, "group": "other" if n % 3 else "three", "half": n / 2}


def read(id, key):
    return bare(orders.read_item(id, partition_key=key))


def query(sql, container=None, **options):
    if "partition_key" not in options:
        options["enable_cross_partition_query"] = True
    return list((container or orders).query_items(sql, **options))


@step("create a database")
def _():
    global database
    database = client.create_database(DATABASE)
    same(database.read()["id"], DATABASE)


@step("the same database again is a conflict")
def _():
    fails(409, lambda: client.create_database(DATABASE))
    same(client.create_database_if_not_exists(DATABASE).id, DATABASE)
    assert DATABASE in [d["id"] for d in client.list_databases()]


@step("create containers")
def _():
    global orders, tenants
    orders = database.create_container("orders", PartitionKey(path="/pk"), offer_throughput=1000)
    tenants = database.create_container("tenants", PartitionKey(path=["/tenant", "/user"], kind="MultiHash"))


@step("the same container again is a conflict, its definition can be read")
def _():
    fails(409, lambda: database.create_container("orders", PartitionKey(path="/pk")))
    same(orders.read()["partitionKey"]["paths"], ["/pk"])
    same(sorted(c["id"] for c in database.list_containers()), ["orders", "tenants"])
    found = database.query_containers('SELECT * FROM c WHERE c.id = "tenants"')
    same([c["id"] for c in found], ["tenants"])


@step("a container that is not there is not found")
def _():
    fails(404, lambda: database.get_container_client("nowhere").read())


FIRST = {"id": "o-1", "pk": "a", "amount": 10, "status": "new", "tags": ["x", "y"], "nested": {"deep": {"n": 1}}}


@step("create a document")
def _():
    answer = orders.create_item(FIRST)
    same(bare(answer), FIRST)
    headers = answer.get_response_headers()
    assert answer["_etag"] and answer["_ts"] > 0 and float(headers["x-ms-request-charge"]) > 0
    store("orders", ["a"], dict(FIRST))


@step("the same document again is a conflict")
def _():
    fails(409, lambda: orders.create_item(FIRST))


@step("read a document")
def _():
    same(read("o-1", "a"), FIRST)


@step("a document that is not there, or under another key, is not found")
def _():
    fails(404, lambda: read("none", "a"))
    fails(404, lambda: read("o-1", "b"))


@step("upsert writes and overwrites")
def _():
    orders.upsert_item({"id": "o-2", "pk": "a", "amount": 20, "status": "new"})
    second = {"id": "o-2", "pk": "a", "amount": 21, "added": None}
    same(bare(orders.upsert_item(second)), second)
    same(read("o-2", "a"), second)
    store("orders", ["a"], second)


@step("replace takes the place of the whole document")
def _():
    document = {"id": "o-2", "pk": "a", "amount": 22, "status": "paid"}
    same(bare(orders.replace_item("o-2", document)), document)
    same(read("o-2", "a"), document)
    store("orders", ["a"], document)


@step("replace what is not there is not found")
def _():
    fails(404, lambda: orders.replace_item("none", {"id": "none", "pk": "a"}))


@step("replace with the ETag of what was read")
def _():
    etag = orders.read_item("o-2", "a")["_etag"]
    document = {"id": "o-2", "pk": "a", "amount": 23, "status": "paid"}
    condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
    orders.replace_item("o-2", document, **condition)
    store("orders", ["a"], document)
    fails(412, lambda: orders.replace_item("o-2", document, **condition))


@step("delete and upsert with an old ETag are refused")
def _():
    condition = {"etag": OLD, "match_condition": MatchConditions.IfNotModified}
    fails(412, lambda: orders.delete_item("o-2", "a", **condition))
    fails(412, lambda: orders.upsert_item({"id": "o-2", "pk": "a"}, **condition))


@step("delete, and again")
def _():
    orders.create_item({"id": "o-3", "pk": "a"})
    orders.delete_item("o-3", "a")
    fails(404, lambda: orders.delete_item("o-3", "a"))


@step("patch: add, set, replace, remove, increment, move")
def _():
    operations = [
        {"op": "add", "path": "/tags/0", "value": "w"},
        {"op": "set", "path": "/status", "value": "open"},
        {"op": "replace", "path": "/nested/deep/n", "value": 2},
        {"op": "incr", "path": "/amount", "value": 5},
        {"op": "add", "path": "/old", "value": True},
        {"op": "remove", "path": "/old"},
        {"op": "move", "from": "/nested/deep", "path": "/moved"},
    ]
    document = {"id": "o-1", "pk": "a", "amount": 15, "status": "open", "tags": ["w", "x", "y"], "nested": {}, "moved": {"n": 2}}
    same(bare(orders.patch_item("o-1", "a", operations)), document)
    same(read("o-1", "a"), document)
    store("orders", ["a"], document)


@step("patch with a condition that holds")
def _():
    operations = [{"op": "set", "path": "/status", "value": "held"}]
    orders.patch_item("o-1", "a", operations, filter_predicate="from c where c.amount = 15 and c.status = 'open'")
    same(read("o-1", "a")["status"], "held")
    stored[("orders", '["a"]', "o-1")]["status"] = "held"


@step("patch with a condition that does not hold is refused")
def _():
    operations = [{"op": "set", "path": "/status", "value": "wrong"}]
    fails(412, lambda: orders.patch_item("o-1", "a", operations, filter_predicate="from c where c.amount > 100"))
    same(read("o-1", "a")["status"], "held")


@step("patch of what is not there, and of a path that is not, is refused")
def _():
    fails(404, lambda: orders.patch_item("none", "a", [{"op": "set", "path": "/a", "value": 1}]))
    fails(400, lambda: orders.patch_item("o-1", "a", [{"op": "replace", "path": "/no/such/path", "value": 1}]))


@step("a document beyond 2 MB is too large")
def _():
    fails(413, lambda: orders.create_item({"id": "large", "pk": "a", "text": "x" * (2 * 1024 * 1024 + 1)}))


@step("ids with odd characters")
def _():
    for id in ["a b", "50%", "a+b", "ü-日本-😀", "it's", 'say "x"', "a&b=c;d,e", "a@b:c|d", "~!$^()[]{}<>", "%2F"]:
        document = {"id": id, "pk": "odd", "odd": True}
        orders.create_item(document)
        same(read(id, "odd"), document)
        store("orders", ["odd"], document)
    orders.delete_item("%2F", "odd")
    forget("orders", ["odd"], "%2F")


@step("keys: null, missing, empty, numbers, booleans, odd text")
def _():
    for n, key in enumerate([None, "", 0, 1.5, -7, True, False, "ünï/code ? # \\ \" '"]):
        document = {"id": f"key-{n}", "pk": key}
        orders.create_item(document)
        same(read(document["id"], key), document)
        store("orders", [key], document)
    from azure.cosmos.partition_key import NonePartitionKeyValue

    missing = {"id": "key-missing", "other": 1}
    orders.create_item(missing)
    same(read("key-missing", NonePartitionKeyValue), missing)
    store("orders", [{}], missing)
    fails(404, lambda: read("key-missing", None))


@step("numbers, text and depth come back as they were")
def _():
    document = {
        "id": "values", "pk": "v", "big": 9007199254740991, "small": -0.000123, "exponent": 1.5e300, "zero": 0,
        "text": "tab\tline\nü\u0000\u2028😀", "nothing": None, "list": [1, "2", [3, [4]], {}], "empty": {}, "none": [], "truth": True,
    }
    orders.create_item(document)
    same(read("values", "v"), document)
    store("orders", ["v"], document)


@step("without content in answers")
def _():
    document = {"id": "quiet", "pk": "v", "n": 1}
    assert "n" not in orders.create_item(document, no_response=True)
    same(read("quiet", "v"), document)
    store("orders", ["v"], document)


@step("120 documents in many partitions")
def _():
    for n in range(120):
        orders.upsert_item(item(n))
        store("orders", [f"k{n % 7}"], item(n))
    for n in (2, 3, 4):
        changed = {**item(n), "group": "changed"}
        orders.replace_item(changed["id"], changed)
        store("orders", [f"k{n}"], changed)


@step("transactional batch: create, upsert, replace, patch, read, delete")
def _():
    orders.create_item({"id": "b-0", "pk": "batch", "n": 0})
    results = orders.execute_item_batch(
        [
            ("create", ({"id": "b-1", "pk": "batch", "n": 1},)),
            ("upsert", ({"id": "b-2", "pk": "batch", "n": 2},)),
            ("replace", ("b-1", {"id": "b-1", "pk": "batch", "n": 11})),
            ("patch", ("b-1", [{"op": "incr", "path": "/n", "value": 1}]), {"filter_predicate": "from c where c.n = 11"}),
            ("read", ("b-1",)),
            ("delete", ("b-0",)),
        ],
        partition_key="batch",
    )
    same([r["statusCode"] for r in results], [201, 201, 200, 200, 200, 204])
    same(results[4]["resourceBody"]["n"], 12)
    store("orders", ["batch"], {"id": "b-1", "pk": "batch", "n": 12})
    store("orders", ["batch"], {"id": "b-2", "pk": "batch", "n": 2})


def refused(operations):
    try:
        orders.execute_item_batch(operations, partition_key="batch")
    except exceptions.CosmosBatchOperationError as error:
        return error.error_index, [r["statusCode"] for r in error.operation_responses]
    raise AssertionError("the batch succeeded")


@step("transactional batch: a conflict undoes all")
def _():
    create = [("create", ({"id": id, "pk": "batch"},)) for id in ("b-3", "b-1", "b-4")]
    same(refused(create), (1, [424, 409, 424]))
    fails(404, lambda: read("b-3", "batch"))


@step("transactional batch: a patch condition that does not hold undoes all")
def _():
    patch = ("patch", ("b-2", [{"op": "set", "path": "/n", "value": 0}]), {"filter_predicate": "from c where c.n = 3"})
    found = refused([("upsert", ({"id": "b-5", "pk": "batch"},)), patch, ("delete", ("b-1",))])
    same(found, (1, [424, 412, 424]))
    same(read("b-2", "batch")["n"], 2)
    fails(404, lambda: read("b-5", "batch"))


@step("transactional batch: a patch of what is not there undoes all")
def _():
    patch = ("patch", ("none", [{"op": "set", "path": "/n", "value": 0}]))
    same(refused([("upsert", ({"id": "b-6", "pk": "batch"},)), patch]), (1, [424, 404]))
    fails(404, lambda: read("b-6", "batch"))


@step("query one partition with parameters")
def _():
    sql = "SELECT c.id, c.n FROM c WHERE c.pk = @pk AND c.n >= @least"
    parameters = [{"name": "@pk", "value": "k1"}, {"name": "@least", "value": 50}]
    expected = [{"id": d["id"], "n": d["n"]} for d in items() if d["pk"] == "k1" and d["n"] >= 50]
    same(by_id(query(sql, parameters=parameters, partition_key="k1")), expected)
    same(by_id(query(sql, parameters=parameters)), expected)


@step("query all partitions")
def _():
    found = query(f'SELECT * FROM c WHERE {IS_ITEM} AND c["group"] IN ("three", "changed")')
    same(by_id(found), by_id(d for d in items() if d["group"] != "other"))


@step("ORDER BY over all partitions, up and down")
def _():
    numbers = sorted(d["n"] for d in items())
    same(query(f"SELECT VALUE c.n FROM c WHERE {IS_ITEM} ORDER BY c.n"), numbers)
    down = query(f"SELECT c.n FROM c WHERE {IS_ITEM} ORDER BY c.n DESC")
    same([d["n"] for d in down], numbers[::-1])


@step("ORDER BY two properties")
def _():
    rows = query(f'SELECT c["group"], c.n FROM c WHERE {IS_ITEM} ORDER BY c["group"], c.n DESC')
    expected = sorted(((d["group"], -d["n"]) for d in items()))
    same([(r["group"], -r["n"]) for r in rows], expected)


@step("pages with continuation tokens")
def _():
    ids, pages, token = [], 0, None
    while True:
        pager = orders.query_items(f"SELECT c.id FROM c WHERE {IS_ITEM}", partition_key="k1", max_item_count=5).by_page(token)
        ids += [d["id"] for d in next(pager)]
        pages, token = pages + 1, pager.continuation_token
        if not token:
            break
    assert pages >= 3, pages
    same(sorted(ids), sorted(d["id"] for d in items() if d["pk"] == "k1"))


@step("COUNT, SUM, AVG, MIN, MAX over all partitions")
def _():
    total = sum(d["n"] for d in items())
    for sql, expected in [
        ("COUNT(1)", 120), ("SUM(c.n)", total), ("AVG(c.n)", total / 120), ("MIN(c.n)", 0), ("MAX(c.n)", 119),
    ]:
        same(query(f"SELECT VALUE {sql} FROM c WHERE {IS_ITEM}"), [expected])
    same(query("SELECT VALUE COUNT(1) FROM c WHERE c.id = 'nobody'"), [0])


@step("aggregates and GROUP BY of one partition")
def _():
    numbers = [d["n"] for d in items() if d["pk"] == "k3"]
    same(query("SELECT VALUE COUNT(1) FROM c", partition_key="k3"), [len(numbers)])
    row = query("SELECT COUNT(1) AS many, MAX(c.n) AS most, SUM(c.n) AS total FROM c", partition_key="k3")
    same(row, [{"many": len(numbers), "most": max(numbers), "total": sum(numbers)}])
    rows = query('SELECT c["group"], COUNT(1) AS many FROM c GROUP BY c["group"]', partition_key="k3")
    groups = [d["group"] for d in items() if d["pk"] == "k3"]
    same({r["group"]: r["many"] for r in rows}, {g: groups.count(g) for g in set(groups)})


@step("DISTINCT, TOP, OFFSET and LIMIT")
def _():
    same(sorted(query(f'SELECT DISTINCT VALUE c["group"] FROM c WHERE {IS_ITEM}')), ["changed", "other", "three"])
    same(len(query(f"SELECT TOP 5 * FROM c WHERE {IS_ITEM}")), 5)
    page = query(f"SELECT VALUE c.n FROM c WHERE {IS_ITEM} ORDER BY c.n OFFSET 3 LIMIT 4")
    same(page, sorted(d["n"] for d in items())[3:7])


@step("JOIN, LIKE, functions, and a wrong query")
def _():
    same(query("SELECT VALUE t FROM c JOIN t IN c.tags WHERE c.id = 'o-1'"), ["w", "x", "y"])
    like = query('SELECT VALUE c.id FROM c WHERE c.id LIKE "i-00%" AND NOT ARRAY_CONTAINS([1, 2], c.n)')
    same(sorted(like), sorted(d["id"] for d in items() if d["id"].startswith("i-00") and d["n"] not in (1, 2)))
    fails(400, lambda: query("SELECT * FRM c"))


@step("values that are not there are left out")
def _():
    same(query("SELECT VALUE c.tags FROM c"), [["w", "x", "y"]])
    same(query("SELECT VALUE SUM(c.status) FROM c WHERE c.id = 'o-1'", partition_key="a"), [])


@step("read all documents")
def _():
    same(by_id(orders.read_all_items()), by_id(in_orders()))


@step("read many documents")
def _():
    wanted = [("i-001", "k1"), ("i-002", "k2"), ("i-010", "k3"), ("o-1", "a"), ("it's", "odd"), ("none", "a")]
    expected = [d for (c, key, id), d in stored.items() if c == "orders" and (id, json.loads(key)[0]) in wanted]
    same(by_id(orders.read_items(wanted)), by_id(expected))


@step("feed ranges")
def _():
    ranges = list(orders.read_feed_ranges())
    assert len(ranges) >= 2, ranges
    queried, fed = [], []
    for one in ranges:
        queried += orders.query_items("SELECT * FROM c", feed_range=one)
        fed += orders.query_items_change_feed(feed_range=one, start_time="Beginning")
    same(by_id(queried), by_id(in_orders()))
    same(by_id(fed), by_id(in_orders()))


@step("change feed from the beginning, then what is new")
def _():
    found = orders.query_items_change_feed(start_time="Beginning", max_item_count=50)
    same(by_id(found), by_id(in_orders()))
    continuation = orders.client_connection.last_response_headers["etag"]
    document = {"id": "late", "pk": "k1", "n": -1}
    orders.create_item(document)
    store("orders", ["k1"], document)
    same(by_id(orders.query_items_change_feed(continuation=continuation)), [document])


@step("change feed of one key, and from now on")
def _():
    found = orders.query_items_change_feed(start_time="Beginning", partition_key="k1")
    same(by_id(found), by_id(d for d in in_orders() if d.get("pk") == "k1"))
    same(list(orders.query_items_change_feed(start_time="Now")), [])


@step("throughput: read and replace")
def _():
    same(orders.get_throughput().offer_throughput, 1000)
    orders.replace_throughput(ThroughputProperties(offer_throughput=2000))
    same(orders.get_throughput().offer_throughput, 2000)


@step("hierarchical keys: create, read, replace, patch, delete")
def _():
    for n, key in enumerate([["t1", "u1"], ["t1", "u2"], ["t2", "u1"], ["t1", None]]):
        document = {"id": f"h-{n}", "tenant": key[0], "user": key[1], "n": n}
        tenants.create_item(document)
        same(bare(tenants.read_item(document["id"], key)), document)
        store("tenants", key, document)
    replaced = {"id": "h-0", "tenant": "t1", "user": "u1", "n": 100}
    tenants.replace_item("h-0", replaced)
    store("tenants", ["t1", "u1"], replaced)
    tenants.patch_item("h-1", ["t1", "u2"], [{"op": "incr", "path": "/n", "value": 10}])
    store("tenants", ["t1", "u2"], {"id": "h-1", "tenant": "t1", "user": "u2", "n": 11})
    tenants.create_item({"id": "h-9", "tenant": "t2", "user": "u9"})
    tenants.delete_item("h-9", ["t2", "u9"])
    fails(404, lambda: tenants.read_item("h-0", ["t1", "u2"]))


@step("hierarchical keys: queries of all, one and a prefix of the levels")
def _():
    sql = "SELECT VALUE c.id FROM c"
    same(query(sql, tenants, partition_key=["t1", "u2"]), ["h-1"])
    same(sorted(query(sql, tenants, partition_key=["t1"])), ["h-0", "h-1", "h-3"])
    same(sorted(query(sql, tenants)), ["h-0", "h-1", "h-2", "h-3"])


@step("hierarchical keys: batch")
def _():
    results = tenants.execute_item_batch([("create", ({"id": "h-c", "tenant": "t3", "user": "u1"},))], partition_key=["t3", "u1"])
    same([r["statusCode"] for r in results], [201])
    store("tenants", ["t3", "u1"], {"id": "h-c", "tenant": "t3", "user": "u1"})


@step("what the connector wrote is read document by document")
def _():
    from azure.cosmos.partition_key import NonePartitionKeyValue

    with open(os.environ["SDKS_OURS"], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    ours = client.get_database_client("ours").get_container_client("documents")
    assert len(lines) > 100, len(lines)
    same(by_id(ours.read_all_items()), by_id(line["document"] for line in lines))
    for line in lines[:20]:
        key = NonePartitionKeyValue if line["key"][0] == {} else line["key"][0]
        same(bare(ours.read_item(line["document"]["id"], key)), line["document"])


@step("change feed of a container whose partitions have split and merged")
def _():
    feed = client.get_database_client("ours").get_container_client("feed")
    found = list(feed.query_items_change_feed(start_time="Beginning", max_item_count=50))
    assert len(found) > 100, len(found)
    with open(os.environ["SDKS_FEED"], "w", encoding="utf-8") as file:
        file.writelines(json.dumps(document) + "\n" for document in found)


@step("delete a container and a database")
def _():
    short = client.create_database(f"{DATABASE}-short")
    container = short.create_container("c", PartitionKey(path="/pk"))
    short.delete_container("c")
    fails(404, container.read)
    client.delete_database(f"{DATABASE}-short")
    fails(404, short.read)


failures = []
for number, (name, body) in enumerate(steps, 1):
    try:
        body()
    except Exception as error:  # whatever it is: the next steps are tried all the same
        failures.append(f"{number} {name}")
        print(f"step {number}, {name}: {type(error).__name__}: {error}", file=sys.stderr)
        traceback.print_tb(error.__traceback__, file=sys.stderr)

with open(os.environ["SDKS_STORED"], "w", encoding="utf-8") as file:
    for (container, _, _), document in stored.items():
        file.write(json.dumps({"database": DATABASE, "container": container, "document": document}) + "\n")
for failure in failures:
    print(f"failed: {failure}")
print(f"{len(steps) - len(failures)} passed, {len(failures)} failed")
sys.exit(1 if failures else 0)
