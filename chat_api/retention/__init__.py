"""Idle sessions are archived, and what a plan no longer keeps is removed."""
