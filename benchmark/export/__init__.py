"""Trained networks as files that other software loads, each checked against the network itself."""
