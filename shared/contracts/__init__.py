"""Everything that crosses the wire between the chat API and the agent service."""
