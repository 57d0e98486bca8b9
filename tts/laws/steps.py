"""Law 4: steps end by the engine's word, join to the text, and are continued as token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.fakes import letters, tree_script
from tts.graph import Node, Origin, Status
from tts.laws.bench import halting_script
from tts.laws.trials import Conditions, Trial, require
from tts.steps import is_empty_step
from tts.types import Finish, Sampling

if TYPE_CHECKING:
    from tts.laws.bench import Bench


SAMPLINGS = (
    Sampling(max_tokens=120, step_tokens=60),
    Sampling(max_tokens=120, step_tokens=3),
    Sampling(max_tokens=18, step_tokens=60),
    Sampling(max_tokens=120, max_steps=2),
    Sampling(max_tokens=120, stops=("answer is",)),
    Sampling(max_tokens=120, delimiters=("1", "\n\n", "s")),
)


async def check(bench: Bench) -> None:
    """Under narrow caps, few steps, stops, odd delimiters and empty steps."""
    for sampling in SAMPLINGS:
        for script in (halting_script, tree_script())[: 1 + bench.thorough]:
            told_by_engine(await bench.run(Conditions(sampling=sampling, script=script)))


def told_by_engine(trial: Trial) -> None:
    """Compare every node with what the generator said, and every request with the path that it continues."""
    graph = trial.ended().graph
    assert graph is not None
    for node in graph:
        if node.origin is Origin.SAMPLED and node.status is not Status.CANCELLED and node.tokens:
            _as_said(trial, node)
    for request in trial.generator.calls:
        ids = list(request.token_ids)
        require(4, ids == list(letters(request.text)), "a path was not sent as its ids", text=request.text, ids=ids)
    texts = {node.path_text for node in graph}
    for path in trial.verifier.seen if trial.verifier is not None else ():
        require(4, "".join(path.steps) in texts, "joined steps are no path of the graph", steps=path.steps)


def _as_said(trial: Trial, node: Node) -> None:
    assert node.parent is not None and node.seed is not None
    said = trial.generator.said.get((node.parent.path_text, node.seed))
    require(4, said is not None and said.text == node.text, "the text is not what was said", node=node, said=said)
    assert said is not None
    require(4, node.tokens == said.tokens, "tokens lost from a step", node=node, said=said)
    ended = said.finish in (Finish.EOS, Finish.STOP)
    empty = not ended and is_empty_step(node.text, trial.conditions.sampling.delimiters)
    if node.status is Status.DISCARDED:
        return
    require(4, (node.status is Status.DEAD) == empty, "only an empty step is dead", node=node, finish=said.finish)
    require(4, node.finished == ended, "finished is not what the engine said", node=node, finish=said.finish)
    cut = said.finish is Finish.LENGTH and not empty
    require(4, not cut or node.status is Status.TRUNCATED, "cut off, but not truncated", node=node)
