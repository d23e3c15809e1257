"""HTTP plumbing that both services share: one ASGI middleware, problem answers, health, metrics."""
