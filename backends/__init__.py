"""Engines behind the generator and scorer protocols: one file or folder each."""
