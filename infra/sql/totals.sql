SET 'execution.runtime-mode' = 'batch';
SELECT COUNT(*) AS orders, SUM(amount) AS amount FROM orders;
RESET 'execution.runtime-mode';
