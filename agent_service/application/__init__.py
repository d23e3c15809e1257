"""What the agent does: run a turn, check a caller's key. Knows ports, not what is behind them."""
