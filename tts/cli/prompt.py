"""`tts solve --show-prompt`: what the model will read, and what ends its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.cli import backends
from tts.cli.text import safe
from tts.run import resolve_caps
from tts.setup import prepare, render

if TYPE_CHECKING:
    from tts.cli.solve import Job
    from tts.run import Caps
    from tts.setup import Setup
    from tts.types import Prompt


async def show(job: Job) -> str:
    """Render the prompt as a search would, and sample nothing."""
    async with backends.opened(job.choice) as (generator, verifier):
        setup = await prepare({**job.options, "generator": generator, "verifier": verifier, "trace": None})
        prompt = await render(setup, job.problem)
        return _describe(setup, prompt, resolve_caps(setup.sampling, generator.capabilities, prompt))


def _describe(setup: Setup, prompt: Prompt, caps: Caps) -> str:
    system = setup.generator.capabilities.system if setup.system is None else setup.system
    sampling = setup.sampling
    facts = {
        "generator": setup.generator.capabilities.name,
        "system": repr(system) if system else "none",
        "delimiters": ", ".join(map(repr, sampling.delimiters)) or "none",
        "stops": ", ".join(map(repr, sampling.stops)) or "none",
        "caps": f"{caps.path} tokens a path, {caps.step} a step, {sampling.max_steps} steps",
        "prompt": f"{len(prompt.token_ids)} tokens" if prompt.token_ids else "",
    }
    return "\n".join([*(f"{name:<12}{safe(fact)}" for name, fact in facts.items()), "", safe(prompt.text)])
