"""Imports a NetSuite account by SuiteQL into SQLite or MySQL, in waves of batches."""
