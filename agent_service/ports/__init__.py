"""What the agent needs from the world, as protocols. Tests bring fakes, `adapters` bring the real thing."""
