from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.backends.fake_vllm import Call, Response
from tests.backends.lying_servers import CONTEXT, TOP, LyingVLLM
from tts.backends.doctor import GENERATES, Bounds, draws, engine, examine, tokens
from tts.backends.doctor.findings import Verdict, found
from tts.backends.doctor.subject import Subject, counters_of
from tts.backends.http import Endpoint, Timeouts
from tts.errors import BackendError, ParameterError, TransientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tts.backends.doctor.findings import Examination, Finding

Ask = "Callable[[Subject], Awaitable[list[Finding]]]"
QUICK = Bounds(total=30, probe=10, patience=0.3)
NOT_TOLD_BY_VLLM = {"refusal of what does not fit", "priorities"}
"""It samples fewer tokens than it was asked for, and takes priorities that it does not obey, without a word."""
YES, NO, UNKNOWN = Verdict.YES, Verdict.NO, Verdict.UNKNOWN


async def look(url: str, *, bounds: Bounds = QUICK) -> Examination:
    return await examine(url, nonce="nonce", bounds=bounds)


def subject_of(server: LyingVLLM) -> Subject:
    """What probes are given, without an examination."""
    endpoint = Endpoint(server.url, timeouts=Timeouts(connect=5, first=5, between=5, total=5))
    return Subject(endpoint, "scripted", server.context, list(map(ord, "Use 3, 5 to make 8.\n")), "nonce", patience=0.3)


async def probed(server: LyingVLLM, ask: Callable[[Subject], Awaitable[list[Finding]]]) -> list[Finding]:
    subject = subject_of(server)
    try:
        return await ask(subject)
    finally:
        await subject.endpoint.aclose()


async def test_an_honest_server_has_every_ability() -> None:
    with LyingVLLM("strict") as server:
        found = await look(server.url)
    missing = {finding.ability for finding in found.findings if finding.verdict is not YES}
    assert missing == NOT_TOLD_BY_VLLM
    assert {name for probe in GENERATES for name in probe.abilities} <= {finding.ability for finding in found.findings}
    assert found.spec == f"vllm:{server.url}" and found.unfit == "" and not found.pooling
    assert found.capabilities is not None
    able = found.capabilities
    assert (able.continuation, able.token_ids, able.logprobs, able.seeds) == (True, True, True, True)
    assert (able.top_logprobs, able.context) == (TOP, CONTEXT)


async def test_what_it_cost_is_told() -> None:
    with LyingVLLM() as server:
        found = await look(server.url)
        # What was sampled in streams that were left, and not seen, is the difference.
        assert 0 < found.sampled <= server.generated
        assert server.generated - found.sampled < 3 * 4 * CONTEXT
        assert found.read >= server.queries


LIES = [
    ("seeds ignored", draws.ask_seeds, {"seeds": (NO, "0 of 3 seeds gave the same tokens twice")}),
    ("seeds change nothing", draws.ask_seeds, {"seeds": (NO, "one and the same text at temperature 2")}),
    ("seed of n", draws.ask_several, {
        "several samples": (YES, "4 were asked for and came"), "seeds of several samples": (NO, "0 of 4"),
    }),
    ("equal texts", draws.ask_several, {"several samples": (NO, "all 4 are the same text")}),
    ("one child", draws.ask_several, {"several samples": (NO, "4 were asked for, 1 came")}),
    ("made-up ids", tokens.ask_token_ids, {"token ids": (NO, "do not say the text that came with them")}),
    ("no ids", tokens.ask_token_ids, {"token ids": (NO, "no ids came")}),
    ("rewrites prompts", tokens.ask_token_ids, {"token ids": (NO, "20 ids were sent, the server says that")}),
    ("new turn", tokens.ask_continuation, {
        "prefix continuation": (NO, "0 of 3"), "continuation by text": (NO, "0 of 3"),
    }),
    ("logprobs short", tokens.ask_logprobs, {
        "log-probabilities": (NO, "16 tokens, but 15 log-probabilities"), "top log-probabilities": (NO, "16 tokens"),
    }),
    ("logprobs of others", tokens.ask_logprobs, {"log-probabilities": (NO, "was drawn greedily, but has")}),
    ("probabilities", tokens.ask_logprobs, {"log-probabilities": (NO, "are no log-probabilities")}),
    ("few logprobs", tokens.ask_logprobs, {"top log-probabilities": (YES, "20 were asked for, 5 came")}),
    ("drops the delimiter", draws.ask_stops, {"stop texts": (NO, "was dropped from it")}),
    ("no stop reason", draws.ask_stops, {"stop texts": (YES, ""), "stop reasons": (NO, "stopped by None")}),
    ("clamps", draws.ask_max_tokens, {"max_tokens": (NO, "12 tokens came and were called cut off, where 40")}),
    ("cuts prompts", draws.ask_context, {"context": (NO, "took a prompt of 129")}),
    ("one piece", engine.ask_streaming, {"streaming": (NO, "16 tokens came in 1 pieces")}),
    ("goes on", engine.ask_cancellation, {"cancellation": (NO, "the engine went on without a reader")}),
    ("denied by metrics", engine.ask_prefix_cache, {
        "prefix cache": (NO, "0 of"), "cached-token counts": (NO, "but the server counts 0 hits"),
    }),
    ("always cached", engine.ask_prefix_cache, {
        "prefix cache": (YES, "by the server's counter"), "cached-token counts": (NO, "never sent before"),
    }),
    ("no token details", engine.ask_prefix_cache, {
        "prefix cache": (YES, "by the server's counter"), "cached-token counts": (NO, "do not say"),
    }),
    ("no prefix cache", engine.ask_prefix_cache, {"prefix cache": (NO, "0 of")}),
    ("batched arithmetic", engine.ask_batch_invariance, {"batch invariance": (NO, "4 of 4 seeded draws")}),
    ("seeds ignored", engine.ask_batch_invariance, {"batch invariance": (UNKNOWN, "differs from itself")}),
    ("any priority", engine.ask_priorities, {"priorities": (NO, "the field is not known")}),
    ("", engine.ask_priorities, {"priorities": (UNKNOWN, "without obeying")}),
    ("", engine.ask_fields, {"refusal of unknown fields": (NO, "without a word")}),
    ("no priorities", engine.ask_priorities, {"priorities": (NO, "priority=1 is refused")}),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "ask", "expected"), LIES, ids=[f"{lie}-{ask.__name__}" for lie, ask, _ in LIES])
async def test_each_lie_is_caught(
    lie: str, ask: Callable[[Subject], Awaitable[list[Finding]]], expected: dict[str, tuple[Verdict, str]]
) -> None:
    with LyingVLLM(lie) as server:
        findings = await probed(server, ask)
    for ability, (verdict, evidence) in expected.items():
        finding = found(findings, ability)
        assert finding.verdict is verdict and evidence in finding.evidence, finding


@pytest.mark.parametrize("ask", dict.fromkeys(ask for _, ask, _ in LIES))
async def test_an_honest_server_is_believed(ask: Callable[[Subject], Awaitable[list[Finding]]]) -> None:
    with LyingVLLM("strict") as server:
        findings = await probed(server, ask)
    assert [one for one in findings if one.verdict is not YES and one.ability not in NOT_TOLD_BY_VLLM] == []


@pytest.mark.parametrize(
    ("lie", "flag"),
    [
        ("no token details", "--enable-prompt-tokens-details"),
        ("no prefix cache", "--enable-prefix-caching"),
        ("any priority", "--scheduling-policy priority"),
        ("few logprobs", "--max-logprobs"),
        ("batched arithmetic", "VLLM_BATCH_INVARIANT=1"),
    ],
)
async def test_the_flag_that_would_help_is_named(lie: str, flag: str) -> None:
    asks = {ask for name, ask, _ in LIES if name == lie}
    assert asks
    with LyingVLLM(lie) as server, LyingVLLM("strict") as honest:
        advice = [one.advice for ask in asks for one in await probed(server, ask)]
        needless = [one.advice for ask in asks for one in await probed(honest, ask)]
    assert any(flag in one for one in advice)
    # Whether priorities are obeyed cannot be told, so that their flag is named in any case.
    assert flag.startswith("--scheduling") or not any(flag in one for one in needless)


async def test_without_counters_the_load_tells() -> None:
    with LyingVLLM("no /metrics") as server:
        (finding,) = await probed(server, engine.ask_cancellation)
        assert finding.verdict is YES and "/load went from 1 to 0" in finding.evidence
    with LyingVLLM("no /metrics", "no /load") as server:
        server.gone.wait = lambda timeout=None: True  # type: ignore[method-assign]
        (finding,) = await probed(server, engine.ask_cancellation)
        assert finding.verdict is UNKNOWN


async def test_a_server_done_before_anyone_could_leave_is_not_accused() -> None:
    with LyingVLLM() as server:
        server.pace = lambda: None
        server.misbehave = partial(_all_at_once, server)
        (finding,) = await probed(server, engine.ask_cancellation)
    assert finding.verdict is UNKNOWN and "before it could be seen to stop" in finding.evidence


def _all_at_once(server: LyingVLLM, call: Call) -> Response | None:
    if call.path == "/v1/completions":
        server.generated += 10_000
    return None


async def test_continuation_is_not_judged_by_an_answer_that_repeats_itself() -> None:
    with LyingVLLM() as server:
        server._say = lambda before, body, seed: ("a" * body["max_tokens"], False)  # type: ignore[method-assign]
        findings = await probed(server, tokens.ask_continuation)
    assert [one.verdict for one in findings] == [UNKNOWN, UNKNOWN]


async def test_a_context_that_is_long_is_not_filled() -> None:
    with LyingVLLM(context=100_000) as server:
        findings = await probed(server, draws.ask_max_tokens)
        assert found(findings, "refusal of what does not fit").verdict is UNKNOWN
        assert max(len(call.body["prompt"]) for call in server.calls) < 100


async def test_what_is_wanting_makes_the_backend_unfit() -> None:
    with LyingVLLM("clamps") as server:
        found = await look(server.url)
    assert found.spec is None or not found.spec.startswith("vllm:")
    assert "max_tokens: 12 tokens came" in found.unfit


async def test_a_server_too_old_for_its_backend_says_so() -> None:
    with LyingVLLM() as server:
        server.version = "0.9.0"
        found = await look(server.url)
    assert "0.20 or newer is needed" in found.unfit and found.spec != f"vllm:{server.url}"


async def test_a_question_that_hangs_is_unknown_and_the_others_are_asked() -> None:
    release = threading.Event()

    def hang(call: Call) -> Response | None:
        return Response(stall=release) if call.path == "/v1/completions" and call.body.get("n") == 4 else None

    with LyingVLLM() as server:
        server.misbehave = hang
        found = await look(server.url, bounds=replace(QUICK, probe=0.5))
        release.set()
    for name in ("several samples", "seeds of several samples", "cancellation"):
        assert found.finding(name).verdict is UNKNOWN and "within 0.5 s" in found.finding(name).evidence
    assert found.finding("prefix cache").verdict is YES


async def test_the_examination_ends_when_its_time_is_up() -> None:
    with LyingVLLM() as server:
        found = await look(server.url, bounds=replace(QUICK, total=1e-9))
    asked = [finding for finding in found.findings if finding.verdict is not UNKNOWN]
    assert {finding.ability for finding in asked} <= {"tokenizer", "chat template", "health"}
    assert "not asked" in found.finding("seeds").evidence


async def test_an_answer_of_another_form_is_no_answer() -> None:
    with LyingVLLM() as server:
        server.misbehave = lambda call: Response(body={"choices": 7}) if "completions" in call.path else None
        found = await look(server.url)
    assert found.spec is None and found.unfit


STRANGE: list[Any] = [
    None, 7, "text", [], {}, [[]], {"choices": []}, {"choices": [{}]}, {"choices": [None]}, {"data": {}},
    {"data": [{"id": "scripted", "max_model_len": "many"}]}, {"data": [{"id": "scripted", "max_model_len": -1}]},
    {"tokens": [1, 2, 3], "prompt": 3, "choices": [{"index": 0, "text": 5, "token_ids": [1e400], "logprobs": 3}]},
    {"tokens": [], "choices": [{"index": 0, "text": "", "token_ids": []}], "usage": {"prompt_tokens_details": []}},
    {"tokens": [1, 2], "choices": [{"index": 0, "text": "a", "token_ids": [1], "finish_reason": {}, "logprobs": {
        "token_logprobs": [None, 3], "top_logprobs": [None, {"x": "y"}]}}], "usage": {"completion_tokens": -4}},
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/models", "/tokenize", "/v1/completions"])
async def test_whatever_a_server_says_is_taken_or_refused_with_a_typed_error(path: str) -> None:
    for strange in STRANGE:
        with saying(path, strange) as server, contextlib.suppress(BackendError):
            assert (await look(server.url, bounds=replace(QUICK, total=0.1, patience=0.0))).findings


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/detokenize", tokens.ask_token_ids),
        ("/detokenize", tokens.ask_continuation),
        ("/metrics", engine.ask_cancellation),
        ("/metrics", engine.ask_prefix_cache),
    ],
)
async def test_whatever_is_said_beside_is_taken_or_refused(path: str, ask: Any) -> None:
    for strange in STRANGE:
        with saying(path, strange) as server, contextlib.suppress(BackendError):
            assert await probed(server, ask)


def saying(path: str, strange: Any) -> LyingVLLM:
    server, body = LyingVLLM(), json.dumps(strange).encode()
    server.misbehave = lambda call: Response(body=body) if call.path == path else None
    return server


async def test_an_engine_that_dies_is_reported() -> None:
    with LyingVLLM() as server:
        server.misbehave = lambda call: Response(503, b"") if call.path == "/health" else None
        found = await look(server.url)
    assert found.finding("health").verdict is NO and "dead" in found.finding("health").evidence


async def test_nothing_there_or_no_such_model() -> None:
    with pytest.raises(TransientError, match="cannot connect"):
        await look("http://127.0.0.1:9")
    with pytest.raises(ParameterError, match="no URL"):
        await look("nonsense")
    with LyingVLLM() as server, pytest.raises(BackendError, match="does not serve 'other'"):
        await examine(server.url, "other", bounds=QUICK)


async def test_every_examination_asks_what_no_cache_holds() -> None:
    with LyingVLLM() as server:
        first = await examine(server.url, bounds=QUICK)
        second = await examine(server.url, bounds=QUICK)
    for each in (first, second):
        assert each.finding("cached-token counts").verdict is YES


def test_counters_of_several_engines_are_summed() -> None:
    text = '# TYPE x\nvllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 1.0\nother 9\n'
    assert counters_of(text) == {"running": 3.0}
    assert counters_of("llamacpp:tokens_predicted_total 1e+03\n") == {"generated": 1000.0}
    assert counters_of("nothing that is known 1\n") is None


async def test_cancelling_an_examination_leaves_nothing_behind() -> None:
    with LyingVLLM() as server:
        with anyio.move_on_after(0.05) as scope:
            await look(server.url)
        assert scope.cancelled_caught
