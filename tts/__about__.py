"""The version, in one place for code and fingerprints."""

__version__ = "0.1.0"
