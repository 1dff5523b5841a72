"""The folder of results: what is in it, whether it is sound, and reading it as a table."""
