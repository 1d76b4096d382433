-- Account, database and the file with the key are yours to put in; `cargo xtask sql` does so by itself.

SET 'execution.checkpointing.interval' = '5 s';
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.sink.require-on-conflict' = 'false';

CREATE TABLE orders (
  id STRING NOT NULL,
  customerId STRING NOT NULL,
  status STRING,
  amount DECIMAL(20, 2),
  `at` TIMESTAMP_LTZ(3),
  address ROW<city STRING, zip INT>,
  PRIMARY KEY (id, customerId) NOT ENFORCED
) WITH (
  'connector' = 'cosmosdb',
  'endpoint' = 'https://ACCOUNT.documents.azure.com:443/',
  'database' = 'shop',
  'container' = 'orders',
  'auth.key-file' = '/run/secrets/cosmos-key'
);

CREATE TABLE open_orders WITH ('container' = 'open-orders') LIKE orders;

CREATE TABLE open_orders_changes WITH (
  'scan.change-feed.mode' = 'all-versions-and-deletes',
  'scan.startup.mode' = 'initial'
) LIKE open_orders;

CREATE TABLE open_orders_copy WITH ('container' = 'open-orders-copy') LIKE orders;

CREATE TABLE order_versions (
  operation STRING METADATA VIRTUAL,
  written TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  WATERMARK FOR written AS SOURCE_WATERMARK()
) WITH (
  'scan.changelog-mode' = 'append',
  'scan.bounded.mode' = 'latest'
) LIKE orders (EXCLUDING CONSTRAINTS);

CREATE TABLE payments (
  id STRING NOT NULL,
  customerId STRING NOT NULL,
  amount DECIMAL(20, 2),
  `at` TIMESTAMP_LTZ(3),
  seen AS PROCTIME(),
  WATERMARK FOR `at` AS `at` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'cosmosdb',
  'endpoint' = 'https://ACCOUNT.documents.azure.com:443/',
  'database' = 'shop',
  'container' = 'payments',
  'auth.key-file' = '/run/secrets/cosmos-key',
  'scan.watermark.idle-timeout' = '2 s'
);

CREATE TABLE revenue (
  id STRING NOT NULL,
  customerId STRING NOT NULL,
  since TIMESTAMP(3),
  payments BIGINT,
  amount DECIMAL(38, 2),
  PRIMARY KEY (id, customerId) NOT ENFORCED
) WITH (
  'connector' = 'cosmosdb',
  'endpoint' = 'https://ACCOUNT.documents.azure.com:443/',
  'database' = 'shop',
  'container' = 'revenue',
  'auth.key-file' = '/run/secrets/cosmos-key'
);

CREATE TABLE lenient_orders (
  document STRING METADATA VIRTUAL
) WITH (
  'json.on-error' = 'null-field',
  'scan.bounded.mode' = 'latest'
) LIKE orders (EXCLUDING CONSTRAINTS);

CREATE TABLE letters (
  document STRING
) WITH (
  'container' = 'letters',
  'sink.null-policy' = 'drop'
) LIKE orders;
