INSERT INTO revenue
SELECT customerId || '-' || DATE_FORMAT(window_start, 'HH:mm'), customerId, window_start, COUNT(*), SUM(amount)
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(`at`), INTERVAL '1' MINUTE))
GROUP BY customerId, window_start, window_end;
