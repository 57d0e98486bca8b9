"""Performance: reference figures and ratios, never tests."""
