"""A generator on any OpenAI-compatible server, with the capabilities that it shows when asked."""

from tts.backends.openai.probe import Abilities, probe
from tts.backends.openai.server import OpenAIServer

__all__ = ["Abilities", "OpenAIServer", "probe"]
