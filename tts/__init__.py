"""Inference-time scaling: search over generators and verifiers, within a budget."""

from tts.__about__ import __version__
from tts.aggregation import Aggregation
from tts.budget import Budget
from tts.errors import TTSError
from tts.many import solve_many, solve_many_sync, stream, stream_sync
from tts.outcome import Candidate, Ended, Outcome
from tts.protocols import Needs, Strategy
from tts.registry import generator, register, strategy, verifier
from tts.retry import Retry
from tts.search import Search
from tts.selection import Answer, best, keep
from tts.setup import SolveOptions
from tts.solve import solve, solve_sync
from tts.types import Event, Message, Problem, Sampling, Usage
from tts.voting import vote

__all__ = [
    "Aggregation",
    "Answer",
    "Budget",
    "Candidate",
    "Ended",
    "Event",
    "Message",
    "Needs",
    "Outcome",
    "Problem",
    "Retry",
    "Sampling",
    "Search",
    "SolveOptions",
    "Strategy",
    "TTSError",
    "Usage",
    "__version__",
    "best",
    "generator",
    "keep",
    "register",
    "solve",
    "solve_many",
    "solve_many_sync",
    "solve_sync",
    "strategy",
    "stream",
    "stream_sync",
    "verifier",
    "vote",
]
