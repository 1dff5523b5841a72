"""Where the time of a step goes, and how fast it is beside other loops."""
