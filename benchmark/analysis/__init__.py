"""Tables of runs in, tables of findings out. Nothing here imports torch or draws."""
