"""Live conversation: sockets, what they follow, and how events reach them."""
