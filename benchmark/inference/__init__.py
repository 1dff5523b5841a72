"""Trained networks in use: finished runs are loaded and label images that nobody labelled."""
