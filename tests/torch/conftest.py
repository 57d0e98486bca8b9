"""Tests of what runs on torch; the environment of the real engine has it, so they run there."""

from __future__ import annotations

import torch

# Small models gain nothing by more, and other work on the machine loses.
torch.set_num_threads(1)
