"""Threads, clocks, files, processes: what makes the core and the store run."""
