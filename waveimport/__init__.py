"""Imports a NetSuite account by SuiteQL into SQLite or MySQL, in waves of batches."""

__version__ = "0.1.0"
