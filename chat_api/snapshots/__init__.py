"""A session as it was at one moment, and a new session made of it."""
