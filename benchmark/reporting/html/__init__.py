"""One offline page of a report: which method for a budget, how sure that is, and the evidence."""
