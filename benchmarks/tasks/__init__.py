"""Sets of problems with exact rules for what is right."""

from tts.benchmarks.tasks.countdown_task import COUNTDOWN, COUNTDOWN_HARD, Countdown
from tts.benchmarks.tasks.words_task import ARITHMETIC_WORDS, ArithmeticWords

__all__ = ["ARITHMETIC_WORDS", "COUNTDOWN", "COUNTDOWN_HARD", "ArithmeticWords", "Countdown"]
