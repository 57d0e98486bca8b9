"""A policy and a process reward model, measured on tasks whose steps can be labelled exactly.

`python -m tts.benchmarks.testbed` draws whole samples of held-out problems, labels and scores each of their parts, and
says what sampling and selection can reach, how well scores tell good parts from bad ones, and whether a score is the
chance that the policy succeeds from there.
"""
