"""Everything on one machine: embedded PostgreSQL and Valkey, and the processes of both services."""
