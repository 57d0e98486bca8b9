"""Tasks, the harness that measures strategies on them, and the statistics of its figures."""
