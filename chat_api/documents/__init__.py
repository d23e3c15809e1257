"""Documents of bots: uploaded, indexed by the worker, searched through the agent."""
