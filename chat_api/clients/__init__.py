"""The one way to the agent service."""
