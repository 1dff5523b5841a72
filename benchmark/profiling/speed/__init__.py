"""How fast the harness trains, as ratios of loops that ran side by side in one process."""
