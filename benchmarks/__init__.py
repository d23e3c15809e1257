"""Our figures beside the limits measured next to them: see `docs/benchmarks.md`."""
