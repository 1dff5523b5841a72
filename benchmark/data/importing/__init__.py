"""Annotations of other tools, converted to a folder of images and PNG labels.

Each format is a module with a function `read`, which says what images there are and how to draw
the label of each. `convert` draws and writes them.
"""
