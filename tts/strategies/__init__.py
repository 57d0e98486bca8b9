"""One algorithm, one file: its parameters, its search, its paper."""
