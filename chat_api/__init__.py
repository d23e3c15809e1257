"""The chat API: users, sessions, messages and runs, in PostgreSQL, over REST and streams."""
