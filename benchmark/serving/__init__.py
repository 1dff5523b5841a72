"""Trained tasks as an HTTP service: one frozen backbone, any number of tasks."""
