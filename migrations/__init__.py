"""One Alembic history for both schemas, `chat` and `agent`. It runs as the owning role."""
