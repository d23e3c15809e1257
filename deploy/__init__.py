"""What it takes to run Colloquy somewhere: one machine, containers, a cluster."""
