INSERT INTO letters (id, customerId, document)
SELECT id, customerId, document FROM lenient_orders
WHERE amount IS NULL AND JSON_EXISTS(document, '$.amount');
