"""Calls of tools that the assistant makes: on record, decided on by people, run at most as often as allowed."""
