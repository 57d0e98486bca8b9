"""The in-process vLLM backend on an engine that is scripted, and may misbehave; the real one has tests of its own."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tts import registry
from tts.backends.vllm_asked import settings_of
from tts.backends.vllm_engine import VLLMEngine, check_version
from tts.checks import Received
from tts.errors import (
    BackendError,
    EngineDeadError,
    MissingExtraError,
    ParameterError,
    ProblemError,
    TransientError,
    UnknownNameError,
)
from tts.protocols import SEED_BLOCK, GenerationRequest
from tts.types import Finish, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tts.types import Completion

PROMPT = Prompt((Message(role="user", content="?"),), "?", (7, 8, 9))


@dataclass
class Arguments:
    """What EngineArgs are here."""

    model: str
    max_model_len: int = 64
    disable_log_stats: bool = False
    distributed_executor_backend: str = ""
    async_scheduling: bool = True
    enable_chunked_prefill: bool = True


@dataclass
class Params:
    """What SamplingParams are here."""

    given: dict[str, Any]

    def __init__(self, **given: Any) -> None:
        self.given = given


class Tokenizer:
    """A letter is a token, numbered by its code point; token 0 ends a sequence and says nothing."""

    chat_template = "{{ messages[-1].content }}"

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return list(map(ord, text))

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        end = "" if skip_special_tokens else "</s>"
        return "".join({0: end, 1: ".\n\nA"}.get(token, chr(token)) for token in tokens)

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        if messages[-1]["role"] == "system":
            raise ValueError("no system")
        return messages[-1]["content"]


def piece(text: str, ids: Sequence[int], finish: str | None = None, stop: Any = None, **more: Any) -> Any:
    given = {"index": 0, "logprobs": None, "finish_reason": finish, "stop_reason": stop, **more}
    return SimpleNamespace(text=text, token_ids=list(ids), **given)


@dataclass
class Scripted:
    """An LLMEngine that gives out what it is told to, step by step."""

    arguments: Arguments
    steps: list[Any] = field(default_factory=list)
    requests: list[tuple[str, Any, Params, int]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    refuses: Exception | None = None
    shut: bool = False
    last: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.engine_core = self
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=self.arguments.max_model_len, max_logprobs=5, dtype="half"),
            scheduler_config=SimpleNamespace(policy="fcfs", async_scheduling=self.arguments.async_scheduling),
            cache_config=None, parallel_config=None,
        )  # fmt: skip

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def get_num_unfinished_requests(self) -> int:
        return len(self.requests) - len(self.aborted)

    def add_request(self, name: str, prompt: Any, params: Params, *, priority: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.requests.append((name, prompt, params, priority))

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names

    def step(self) -> list[Any]:
        now = self.steps.pop(0) if self.steps else []
        if isinstance(now, Exception):
            raise now
        if not self.steps:
            self.last()
        name = self.requests[-1][0]
        return [SimpleNamespace(request_id=name, num_cached_tokens=2, outputs=now)] if now else []

    def shutdown(self) -> None:
        self.shut = True


class Install:
    """What is importable as vLLM."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engines: list[Scripted] = []
        self.failure: Exception | None = None
        kinds = {"from_engine_args": self.start}
        self.modules: dict[str, dict[str, Any]] = {
            "vllm": {"__version__": "0.20.0", "SamplingParams": Params},
            "vllm.engine.arg_utils": {"EngineArgs": Arguments, "AsyncEngineArgs": Arguments},
            "vllm.v1.engine.llm_engine": {"LLMEngine": SimpleNamespace(**kinds)},
            "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
            "vllm.exceptions": {},
            "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: True)},
        }
        for name, contents in self.modules.items():
            module = ModuleType(name)
            vars(module).update(contents)
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("vllm.engine", "vllm.v1", "vllm.v1.engine"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))

    def start(self, arguments: Arguments) -> Scripted:
        if self.failure is not None:
            raise self.failure
        self.engines.append(Scripted(arguments))
        return self.engines[-1]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Install:
    return Install(monkeypatch)


def ask(count: int = 1, **changes: Any) -> GenerationRequest:
    given: dict[str, Any] = {
        "prompt": PROMPT, "text": "", "token_ids": (), "count": count, "seed": 5 * SEED_BLOCK, "max_tokens": 4,
        "delimiters": ("\n\n",), "sampling": Sampling(stops=("END",)), **changes,
    }  # fmt: skip
    return GenerationRequest(**given)


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[VLLMEngine]:
    engine = VLLMEngine("here/model", single_process=True, **options)
    try:
        await engine.connect()
        yield engine
    finally:
        await engine.aclose()


async def drawn(vllm: Install, *steps: Any, **changes: Any) -> Completion:
    received = Received(1)
    async with started() as engine:
        vllm.engines[-1].steps = list(steps)
        await engine.generate(ask(**changes), received)
    assert received.prompts == len(PROMPT.token_ids)
    return received.completions[0]


async def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    engine: Any = registry.generator("vllm-engine:some/model")
    with pytest.raises(MissingExtraError, match=r"vllm is not installed: .*\[vllm\]"):
        await engine.connect()


def test_no_model_is_refused() -> None:
    with pytest.raises(ParameterError, match="vllm-engine:MODEL"):
        registry.generator("vllm-engine")


def test_versions() -> None:
    for version in ("0.20.0", "0.32.0+cpu", "1.0rc1", "0.0.0.dev1", "dev"):
        assert check_version(version) == version
    for version in ("0.19.3", "0.9.0"):
        with pytest.raises(BackendError, match=r"0\.20 or newer is needed"):
            check_version(version)


async def test_a_start_that_fails_says_why_and_another_may_succeed(vllm: Install) -> None:
    engine = VLLMEngine("here/model", single_process=True)
    vllm.failure = ValueError("No available memory for the cache blocks.")
    with pytest.raises(BackendError, match=r"vllm/model: .*No available memory for the cache.*gpu_memory_utilization"):
        await engine.connect()
    with pytest.raises(BackendError, match="await connect"):
        _ = engine.capabilities
    vllm.failure = None
    await engine.connect()
    await engine.connect()
    assert len(vllm.engines) == 1
    await engine.aclose()
    assert vllm.engines[0].shut
    with pytest.raises(EngineDeadError, match="was closed"):
        await engine.connect()


async def test_what_it_says_of_itself(vllm: Install) -> None:
    async with started(step_tokens=9) as engine:
        able, arguments = engine.capabilities, vllm.engines[0].arguments
        with pytest.raises(BackendError, match="stepped in this process already"):
            await VLLMEngine("here/model", single_process=True).connect()
    assert (able.name, able.context, able.step_tokens, able.top_logprobs) == ("vllm/model", 64, 9, 5)
    assert able.exact_cancellation and not arguments.async_scheduling
    assert not arguments.enable_chunked_prefill, "on a CPU it kills the engine"
    assert (able.fingerprint["engine"], able.fingerprint["dtype"]) == ("vllm 0.20.0", "half")
    async with started(engine={"async_scheduling": True}) as ahead:
        assert not ahead.capabilities.exact_cancellation
    with pytest.raises(UnknownNameError, match="did you mean max_model_len"):
        await VLLMEngine("here/model", engine={"max_model_length": 3}).connect()


async def test_conversations(vllm: Install) -> None:
    async with started() as engine:
        assert (await engine.encode([Message(role="user", content="ab")])).token_ids == (97, 98)
        with pytest.raises(ProblemError, match="no system"):
            await engine.encode([Message(role="system", content="ab")])
        with pytest.raises(ProblemError, match="has 64 tokens; vllm/model holds 64"):
            await engine.encode([Message(role="user", content="a" * 64)])


def test_children_share_a_request_unless_drawn_without_chance() -> None:
    (together,) = settings_of(ask(3, logprobs=True))
    assert (together["n"], together["seed"], together["logprobs"]) == (3, 5 * SEED_BLOCK, 0)
    assert together["stop"] == ["\n\n", "END"] and together["include_stop_str_in_output"]
    apart = settings_of(ask(3, sampling=Sampling(temperature=0), delimiters=()))
    assert [one["n"] for one in apart] == [1, 1, 1]
    assert [one["seed"] - 5 * SEED_BLOCK for one in apart] == [0, 1, 2]
    assert apart[0]["logprobs"] is None and not apart[0]["include_stop_str_in_output"]


@pytest.mark.parametrize(
    ("said", "finish", "text"),
    [
        (piece("\n\n", [66], "stop", "\n\n"), Finish.DELIMITER, "ab\n\n"),
        (piece(".\n\n", [1], "stop", "\n\n"), Finish.DELIMITER, "ab.\n\nA"),
        (piece("END", [66], "stop", "END"), Finish.STOP, "abEND"),
        (piece("", [0], "stop"), Finish.EOS, "ab"),
        (piece("", [0], "stop", 0), Finish.EOS, "ab"),
        (piece("cd", [99, 100], "length"), Finish.LENGTH, "abcd"),
    ],
)
async def test_why_a_child_ended_is_the_engines_word(vllm: Install, said: Any, finish: Finish, text: str) -> None:
    child = await drawn(vllm, [piece("ab", [97, 98])], [said])
    assert (child.finish, child.text, child.tokens) == (finish, text, 2 + len(said.token_ids))
    assert list(child.token_ids or ()) == [97, 98, *said.token_ids]


async def test_an_end_of_sequence_is_not_shown_where_other_special_tokens_are(vllm: Install) -> None:
    async with started(special_tokens=True) as engine:
        for delimiters, shown in (("\n\n",), "a</s>"), ((), "a"):
            received = Received(1)
            vllm.engines[0].steps = [[piece(shown, [97, 0], "stop")]]
            sampling = Sampling(delimiters=delimiters)
            await engine.generate(ask(delimiters=delimiters, sampling=sampling), received)
            child = received.completions[0]
            assert (child.text, child.tokens, child.finish) == ("a", 2, Finish.EOS)
            assert vllm.engines[0].requests[-1][2].given["skip_special_tokens"] is False


@pytest.mark.parametrize(
    ("said", "error", "says"),
    [
        (piece("c", [99], "length"), BackendError, "cut off at 3 tokens where 4"),
        (piece("c", [99], "error"), TransientError, "error"),
        (piece("c", [99], "abort"), TransientError, "abort"),
        (piece("c", [99], "stop", "\n\n"), BackendError, "which its text lacks"),
        (piece("c!", [99], "stop", "!"), BackendError, "which nobody asked for"),
    ],
)
async def test_what_was_not_asked_for_is_an_error(vllm: Install, said: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        await drawn(vllm, [piece("ab", [97, 98])], [said])
    assert len(vllm.engines[0].aborted) == 1


async def test_log_probabilities(vllm: Install) -> None:
    def row(**values: float) -> Any:
        return {ord(letter): SimpleNamespace(logprob=value) for letter, value in values.items()}

    rows = [row(a=-3.0, x=-1.0, y=-2.0), row(b=-0.5, z=-1.5)]
    said = piece("ab", [97, 98], "length", logprobs=rows)
    child = await drawn(vllm, [said], max_tokens=2, logprobs=True, top_logprobs=2)
    assert list(child.logprobs or ()) == [-3.0, -0.5]
    assert list(child.top_logprobs or ()) == [-1.0, -2.0, -0.5, -1.5]
    with pytest.raises(BackendError, match="2 tokens, but 1 log-probabilities"):
        await drawn(vllm, [piece("ab", [97, 98], "length", logprobs=rows[:1])], max_tokens=2, logprobs=True)


async def test_refusals_and_deaths(vllm: Install) -> None:
    async with started() as engine:
        scripted = vllm.engines[0]
        with pytest.raises(ParameterError, match="more than the 64 tokens"):
            await engine.generate(ask(max_tokens=62), Received(1))
        assert not scripted.requests
        scripted.refuses = ValueError("Token id 9 is out of vocabulary")
        with pytest.raises(ParameterError, match="out of vocabulary"):
            await engine.generate(ask(), Received(1))
        scripted.refuses, scripted.steps = None, [RuntimeError("CUDA error")]
        for _ in range(2):
            with pytest.raises(EngineDeadError, match="CUDA error"):
                await engine.generate(ask(), Received(1))


async def test_cancelled_all_that_was_sampled_is_told(vllm: Install) -> None:
    received, scope, token = Received(1), anyio.CancelScope(), anyio.lowlevel.current_token()
    async with started() as engine:
        scripted = vllm.engines[0]
        scripted.steps = [[piece("a", [97])], [piece("b", [98])]]
        scripted.last = lambda: anyio.from_thread.run_sync(scope.cancel, token=token)
        with scope:
            await engine.generate(ask(), received)
        assert scope.cancelled_caught
        assert received.seen == [2] and not received.completions
        assert scripted.aborted == [scripted.requests[0][0]]
