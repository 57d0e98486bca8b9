"""Sets of problems with exact rules for what is right."""

from tts.benchmarks.tasks.countdown_task import COUNTDOWN, Countdown

__all__ = ["COUNTDOWN", "Countdown"]
