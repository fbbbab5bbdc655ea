"""A long run of a real cluster under trouble: `ops/soak`."""
