-- The columns that are named are written, and the others stay as they are.
INSERT INTO orders /*+ OPTIONS('sink.write-strategy' = 'bulk-update') */ (id, customerId, status) VALUES
  ('o2', 'c2', 'shipped'),
  ('o3', 'c1', 'shipped');

-- Ten minutes later: the windows before are complete.
INSERT INTO payments VALUES
  ('p5', 'c1', 1.00, TIMESTAMP '2026-01-01 10:10:00'),
  ('p6', 'c2', 1.00, TIMESTAMP '2026-01-01 10:10:00');
