"""Bots: how an assistant answers, what it knows, and who may use it."""
