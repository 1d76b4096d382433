-- An order that is open no more is deleted from the second container, and so from its copy.
INSERT INTO open_orders SELECT * FROM orders WHERE status = 'open';

INSERT INTO open_orders_copy SELECT * FROM open_orders_changes;
