SELECT id, customerId, status, operation, written FROM order_versions;
