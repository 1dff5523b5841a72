"""Tables of runs in, tables of findings out. Nothing here knows torch or draws."""
