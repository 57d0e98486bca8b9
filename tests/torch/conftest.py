"""Tests of what runs on torch are collected only where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

if not (find_spec("torch") and find_spec("transformers")):
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    # Small models gain nothing by more, and other work on the machine loses.
    torch.set_num_threads(1)
