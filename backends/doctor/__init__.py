"""What a server can do, measured by asking it."""

from tts.backends.doctor.examination import GENERATES, QUESTION, Bounds, examine

__all__ = ["GENERATES", "QUESTION", "Bounds", "examine"]
