"""One kind of verifier, one file."""
