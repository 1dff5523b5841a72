"""Ways to hand out cells. Each takes cells and yields records."""
