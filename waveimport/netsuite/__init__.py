"""HTTP: signed SuiteQL requests, one page at a time."""
