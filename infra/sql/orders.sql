INSERT INTO orders VALUES
  ('o1', 'c1', 'open', 12.50, TIMESTAMP '2026-01-01 10:00:00', ROW('Kiel', 24103)),
  ('o2', 'c2', 'open', 99.99, TIMESTAMP '2026-01-01 10:00:30', ROW('Bonn', 53111)),
  ('o3', 'c1', 'open', 5.01, TIMESTAMP '2026-01-01 10:01:00', ROW('Kiel', 24103)),
  ('o4', 'c3', 'open', 700.00, TIMESTAMP '2026-01-01 10:01:30', ROW('Jena', 7743)),
  ('o5', 'c2', 'shipped', 416.00, TIMESTAMP '2026-01-01 10:02:00', ROW('Bonn', 53111));

INSERT INTO payments VALUES
  ('p1', 'c1', 12.50, TIMESTAMP '2026-01-01 10:00:05'),
  ('p2', 'c1', 5.01, TIMESTAMP '2026-01-01 10:00:55'),
  ('p3', 'c2', 99.99, TIMESTAMP '2026-01-01 10:00:59'),
  ('p4', 'c1', 8.00, TIMESTAMP '2026-01-01 10:01:00');
