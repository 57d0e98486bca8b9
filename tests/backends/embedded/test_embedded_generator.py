"""The generator, clause by clause."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest

from tts.backends.embedded import EmbeddedGenerator
from tts.errors import MissingExtraError, ParameterError, ProblemError
from tts.testing import check_generator
from tts.types import Finish, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.backends.embedded.conftest import Recorder
    from tts.protocols import GenerationRequest

    Requests = Callable[..., GenerationRequest]

PIECES = ["", "", "", *map(str, range(40)), " + ", " = ", ", ", "\n", "Use ", " to make ", "."]


def ragged(request_of: Requests, count: int) -> list[GenerationRequest]:
    """Requests that differ in everything, and end in every way."""
    rng = np.random.default_rng(0)
    samplings = [
        Sampling(temperature=1.0),
        Sampling(temperature=0),
        Sampling(temperature=1.4, top_k=20),
        Sampling(temperature=1.2, top_p=0.8, stops=(" = ",)),
    ]
    return [
        request_of(
            prompt=Prompt((), "", tuple(rng.integers(3, 50, rng.integers(1, 30)).tolist())),
            token_ids=rng.integers(3, 50, rng.integers(0, 30)).tolist(),
            count=int(rng.integers(1, 5)),
            seed=4096 * place,
            max_tokens=int(rng.integers(1, 80)),
            delimiters=[(), ("\n",), (", 3", " + ")][place % 3],
            sampling=samplings[place % 4],
            logprobs=place % 5 > 0,
        )
        for place in range(count)
    ]


async def alone(generator: EmbeddedGenerator, requests: Sequence[Any], recorder: type[Recorder]) -> list[Recorder]:
    recorders = [recorder() for _ in requests]
    for request, sink in zip(requests, recorders, strict=True):
        await generator.generate(request, sink)
    return recorders


async def together(generator: EmbeddedGenerator, requests: Sequence[Any], recorder: type[Recorder]) -> list[Recorder]:
    recorders = [recorder() for _ in requests]
    async with anyio.create_task_group() as tasks:
        for request, sink in zip(requests, recorders, strict=True):
            tasks.start_soon(generator.generate, request, sink)
    return recorders


async def test_it_keeps_the_clauses_that_any_generator_keeps(policy: Path) -> None:
    await check_generator(lambda: EmbeddedGenerator(policy, rows=3), "Use 18, 14 to make 25.", max_tokens=60)


async def test_every_child_is_delivered_once_and_as_asked(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G1, G4 and G8, for more children than rows."""
    sink = recorder()
    await generator.generate(request_of(count=150), sink)
    assert sorted(sink.finished) == list(range(150))
    for child in sink.finished.values():
        assert child.token_ids is not None
        assert child.logprobs is not None
        assert child.tokens == len(child.token_ids) == len(child.logprobs) <= 40
        assert max(child.logprobs) <= 0
        assert (child.finish is Finish.EOS) == (child.token_ids[-1] == 1)
        assert child.finish is Finish.EOS or (child.finish is Finish.LENGTH and child.tokens == 40)
    assert {child.finish for child in sink.finished.values()} == {Finish.EOS, Finish.LENGTH}
    assert not sink.told


async def test_requests_whose_children_end_with_their_first_token_are_served_in_turn(
    policy: Path, recorder: type[Recorder], request_of: Requests
) -> None:
    """G1, where rows come free while children are being let in."""
    requests = [request_of(seed=4096 * place, count=1 + place % 7, max_tokens=1 + place % 2) for place in range(40)]
    for place, sink in enumerate(await together(EmbeddedGenerator(policy, rows=3), requests[::-1], recorder)):
        assert sorted(sink.finished) == list(range(1 + (39 - place) % 7))


async def test_children_come_as_soon_as_they_are_complete(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G1."""
    sink = recorder()
    await generator.generate(request_of(count=30), sink)
    lengths = [child.tokens for child in sink.finished.values()]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


async def test_text_is_what_the_tokens_say(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G2."""
    sink = recorder()
    await generator.generate(request_of(count=40, delimiters=(" + ",)), sink)
    for child in sink.finished.values():
        assert child.text == "".join(PIECES[token] for token in child.token_ids or ())


async def test_a_child_ends_at_the_token_that_completes_a_text(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G3: texts that span several tokens, or are part of one; what ends the path goes before what ends a step."""
    sampling = Sampling(temperature=1.5, stops=("1 +", "33"))
    sink = recorder()
    await generator.generate(request_of(count=400, delimiters=("\n1", "3", "to"), sampling=sampling), sink)
    for child in sink.finished.values():
        before = "".join(PIECES[token] for token in (child.token_ids or ())[:-1])
        assert not any(text in before for text in ("1 +", "33", "\n1", "3", "to"))
        stopped = any(stop in child.text for stop in ("1 +", "33"))
        delimited = any(delimiter in child.text for delimiter in ("\n1", "3", "to"))
        assert (child.finish is Finish.STOP) == stopped
        assert (child.finish is Finish.DELIMITER) == (delimited and not stopped)
    assert {child.finish for child in sink.finished.values()} >= {Finish.STOP, Finish.DELIMITER, Finish.EOS}


async def test_a_matched_text_at_the_cap_is_not_a_truncation(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G3 and G4."""
    free = recorder()
    await generator.generate(request_of(count=60, delimiters=(" + ",)), free)
    child = next(c for c in free.finished.values() if c.finish is Finish.DELIMITER)
    index = next(i for i, c in free.finished.items() if c is child)
    capped, shorter = recorder(), recorder()
    same = {"count": 1, "seed": 8192 + index, "delimiters": (" + ",)}
    await generator.generate(request_of(max_tokens=child.tokens, **same), capped)
    assert capped.finished[0].finish is Finish.DELIMITER
    if child.tokens > 1:
        await generator.generate(request_of(max_tokens=child.tokens - 1, **same), shorter)
        assert shorter.finished[0].finish is Finish.LENGTH


async def test_requests_are_bitwise_the_same_alone_and_in_any_batch(
    policy: Path, recorder: type[Recorder], request_of: Requests
) -> None:
    """G5: with a cold and a warm prefix cache, in small and large batches, and with more threads."""
    requests = ragged(request_of, 64)
    expected = [sink.words() for sink in await alone(EmbeddedGenerator(policy, cache_bytes=0), requests, recorder)]
    assert {word[2] for words in expected for word in words} == set(Finish)
    for rows, cache_bytes, threads in ((200, 2**20, 1), (7, 20_000, 1), (64, 2**20, 2)):
        generator = EmbeddedGenerator(policy, rows=rows, cache_bytes=cache_bytes, threads=threads)
        for _ in ("cold", "warm"):
            assert [sink.words() for sink in await together(generator, requests, recorder)] == expected
        await generator.aclose()


async def test_a_child_depends_on_its_own_seed(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """G5: child j of a request is the only child of a request with seed + j."""
    group, single, other = recorder(), recorder(), recorder()
    await generator.generate(request_of(count=4), group)
    await generator.generate(request_of(count=1, seed=8192 + 3), single)
    await generator.generate(request_of(count=4, seed=4096), other)
    assert single.finished[0] == group.finished[3]
    assert len({child.text for child in (*group.finished.values(), *other.finished.values())}) > 4


async def test_a_path_is_read_from_its_tokens_or_its_text(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    text = "3 + 4 = 7\n"
    sinks = [recorder(), recorder(), recorder()]
    await generator.generate(request_of(text=text), sinks[0])
    await generator.generate(request_of(text=text, token_ids=await generator.tokenize(text)), sinks[1])
    prompt = "Use 18, 14 to make 25.\n"
    whole = Prompt((), "", tuple(await generator.tokenize(prompt + text)))
    await generator.generate(request_of(prompt=whole), sinks[2])
    assert sinks[0].words() == sinks[1].words() == sinks[2].words()


async def test_greedy_children_are_all_the_same(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    sink = recorder()
    await generator.generate(request_of(sampling=Sampling(temperature=0)), sink)
    assert len({child.text for child in sink.finished.values()}) == 1


async def test_without_logprobs_there_are_none(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    sink = recorder()
    await generator.generate(request_of(logprobs=False), sink)
    assert all(child.logprobs is None for child in sink.finished.values())


async def test_what_was_computed_before_is_not_computed_again(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    """Prompt tokens are read once for all children; a continuation reads only the last token of its path."""
    first, again, following = recorder(), recorder(), recorder()
    await generator.generate(request_of(delimiters=(" + ",)), first)
    assert first.read == (0, 8)
    await generator.generate(request_of(seed=0), again)
    assert again.read == (7, 1)
    child = next(c for c in first.finished.values() if c.finish is not Finish.EOS)
    await generator.generate(request_of(token_ids=child.token_ids, text=child.text), following)
    assert following.read == (8 + child.tokens - 1, 1)


async def test_without_a_cache_everything_is_computed(
    policy: Path, recorder: type[Recorder], request_of: Requests
) -> None:
    generator = EmbeddedGenerator(policy, cache_bytes=0)
    assert [sink.read for sink in await alone(generator, [request_of()] * 2, recorder)] == [(0, 8)] * 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_tokens": 137}, r"prompt 8 \+ path 0 \+ max_tokens 137 is more than the 144"),
        ({"token_ids": [5] * 100, "max_tokens": 37}, r"prompt 8 \+ path 100 \+ max_tokens 37"),
        ({"token_ids": [5] * 137}, "145 tokens"),
        ({"token_ids": [50]}, "17 to 50"),
        ({"token_ids": [-1]}, "-1 to"),
        ({"prompt": Prompt((), "")}, "0 tokens"),
        ({"count": 0}, "count=0"),
        ({"count": 4097}, "count=4097"),
        ({"max_tokens": 0}, "max_tokens=0"),
    ],
)
async def test_what_does_not_fit_is_refused(
    generator: EmbeddedGenerator,
    recorder: type[Recorder],
    request_of: Requests,
    changes: dict[str, object],
    named: str,
) -> None:
    sink = recorder()
    with pytest.raises(ParameterError, match=named):
        await generator.generate(request_of(**changes), sink)
    assert sink.read is None


async def test_a_child_may_fill_the_context(
    generator: EmbeddedGenerator, recorder: type[Recorder], request_of: Requests
) -> None:
    sink = recorder()
    await generator.generate(request_of(count=64, max_tokens=136, sampling=Sampling(temperature=0.9)), sink)
    assert max(child.tokens for child in sink.finished.values()) == 136


async def test_a_conversation_is_encoded_with_the_template(generator: EmbeddedGenerator) -> None:
    messages = (Message(role="user", content="Use 18, 14 to make 25."),)
    prompt = await generator.encode(messages)
    assert prompt == Prompt(messages, "Use 18, 14 to make 25.\n", (47, 21, 45, 17, 48, 28, 49, 46))


async def test_a_conversation_that_cannot_be_read_is_refused(generator: EmbeddedGenerator) -> None:
    with pytest.raises(ProblemError, match="does not know 'What is '"):
        await generator.encode([Message(role="user", content="What is 3 + 4")])
    with pytest.raises(ProblemError, match="144 tokens; the model reads 1 to 143"):
        await generator.encode([Message(role="user", content="." * 143)])


def test_capabilities_come_from_the_folder(generator: EmbeddedGenerator, policy: Path) -> None:
    found = generator.capabilities
    assert (found.name, found.context, found.max_tokens, found.step_tokens) == ("embedded/policy", 144, 30, 9)
    assert found.exact_cancellation
    assert found.dollars_per_token is None
    assert found.flops_per_token == 2 * sum(
        size for size in (50 * 32, 32, *[32 * 64 * 2 + 32 * 32 * 2 + 3 * 32 * 48 + 2 * 32] * 2)
    )
    assert found.fingerprint == EmbeddedGenerator(policy).capabilities.fingerprint
    changed = EmbeddedGenerator(policy, threads=2, template="{{ 1 }}").capabilities.fingerprint
    assert {name for name in changed if changed[name] != found.fingerprint[name]} == {"threads", "template"}


def test_a_number_out_of_range_and_a_scorer_are_refused(policy: Path, judge: Path) -> None:
    with pytest.raises(ParameterError, match="threads is 0"):
        EmbeddedGenerator(policy, threads=0)
    with pytest.raises(ParameterError, match="rows is 0"):
        EmbeddedGenerator(policy, rows=0)
    with pytest.raises(ParameterError, match="cache_bytes is -1"):
        EmbeddedGenerator(policy, cache_bytes=-1)
    with pytest.raises(ParameterError, match="3 classes"):
        EmbeddedGenerator(judge)


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers", "jinja2.sandbox"])
def test_a_missing_package_is_named_with_its_extra(policy: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module.split('.')[0]} is not installed.*\[embedded\]"):
        EmbeddedGenerator(policy)
