"""Times that compare: all methods of a group measured in turns, in one process."""
