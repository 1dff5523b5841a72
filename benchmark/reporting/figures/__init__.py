"""One figure a file: a table in, a figure out."""
