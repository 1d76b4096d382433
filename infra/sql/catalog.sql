-- The account's own databases and containers: nothing is declared.
CREATE CATALOG account WITH (
  'type' = 'cosmosdb',
  'endpoint' = 'https://ACCOUNT.documents.azure.com:443/',
  'default-database' = 'shop',
  'auth.key-file' = '/run/secrets/cosmos-key'
);

USE CATALOG account;

SHOW TABLES;

DESCRIBE payments;

CREATE TABLE `large-orders` (
  id STRING NOT NULL,
  customerId STRING NOT NULL,
  city STRING,
  amount DECIMAL(20, 2),
  PRIMARY KEY (id, customerId) NOT ENFORCED
) WITH ('default-ttl' = '30 d');

SET 'execution.runtime-mode' = 'batch';

INSERT INTO `large-orders`
SELECT id, customerId, address.city, CAST(amount AS DECIMAL(20, 2)) FROM orders WHERE amount > 400;

RESET 'execution.runtime-mode';

USE CATALOG default_catalog;
