"""One offline page of a report: which method for a budget, how sure that is, and the evidence."""

from benchmark.reporting.html.page import render

__all__ = ["render"]
