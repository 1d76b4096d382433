-- Each payment is looked up among the orders of its customer.
SELECT p.id || ' pays ' || o.id AS what, o.status
FROM payments /*+ OPTIONS('scan.bounded.mode' = 'latest') */ AS p
JOIN orders FOR SYSTEM_TIME AS OF p.seen AS o ON o.customerId = p.customerId AND o.amount = p.amount;
