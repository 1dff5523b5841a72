"""Cells that are run: one, a grid, side by side, again."""
