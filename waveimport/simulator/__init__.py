"""A simulated NetSuite account over HTTP."""
