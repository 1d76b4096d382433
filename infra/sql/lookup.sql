-- Each payment is looked up among the orders of its customer.
SET 'execution.runtime-mode' = 'batch';
SELECT p.id || ' pays ' || o.id AS what, o.status
FROM payments AS p
JOIN orders FOR SYSTEM_TIME AS OF p.seen AS o ON o.customerId = p.customerId AND o.amount = p.amount;
RESET 'execution.runtime-mode';
