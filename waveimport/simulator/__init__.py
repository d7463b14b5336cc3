"""A simulated NetSuite account over HTTP: TPC-H as the account's data, SuiteQL as real SQL behind signed requests.

`handle.Simulator` is the way in for a program, `waveimport simulate` for a person. Nothing here is imported by the
importer: it plays another machine, with its own clock and its own reading of the service's documentation.
"""
