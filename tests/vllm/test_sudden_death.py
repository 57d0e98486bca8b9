"""An engine that dies behind its server, in the middle of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import tts
from tests.vllm.test_counters import PROBLEMS
from tts.backends.embedded import EmbeddedScorer
from tts.backends.vllm_server import VLLMServer
from tts.errors import BackendError
from tts.retry import Retry
from tts.strategies.particle_filter import ParticleFilter
from tts.verifiers.process_reward import ProcessReward

if TYPE_CHECKING:
    from tests.vllm.served import Server

SEARCH = ParticleFilter(n=8)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_error_names_the_server_and_what_was_done_is_kept(replica: Server) -> None:
    generator = VLLMServer(replica.url, task="countdown", max_tokens=96, step_tokens=32)
    nodes: list[tts.Event] = []

    def kill_midway(event: tts.Event) -> None:
        if event.kind == "node":
            nodes.append(event)
        if len(nodes) == SEARCH.n:
            replica.kill_engine()

    # The server tells of it until it ends, which it does soon.
    said = f"{generator.endpoint.name}.*(its engine is dead|connection broke|is the server running)"
    with pytest.raises(BackendError, match=said) as raised:
        await tts.solve(
            PROBLEMS[0], strategy=SEARCH, generator=generator, verifier=ProcessReward(EmbeddedScorer()),
            retry=Retry(attempts=2, first_delay=0), observers=[kill_midway],
        )  # fmt: skip
    outcome = raised.value.outcome
    assert outcome is not None and outcome.ended is tts.Ended.ERROR
    assert outcome.usage.generated and outcome.graph is not None and len(list(outcome.graph)) > SEARCH.n
