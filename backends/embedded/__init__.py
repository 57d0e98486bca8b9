"""Small models in this process, on the CPU: the bundled pair, or one's own Llama-architecture checkpoint."""

from tts.backends.embedded.generator import EmbeddedGenerator
from tts.backends.embedded.scorer import EmbeddedScorer

__all__ = ["EmbeddedGenerator", "EmbeddedScorer"]
