INSERT INTO letters (id, customerId, document)
SELECT id, customerId, document FROM lenient_orders
WHERE amount IS NULL
  AND (JSON_VALUE(document, '$.amount') IS NOT NULL OR JSON_QUERY(document, '$.amount') IS NOT NULL);
