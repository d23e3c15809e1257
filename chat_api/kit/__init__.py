"""Generic parts that know no domain: the database, web plumbing, pages, idempotency."""
