"""What goes to vLLM and what comes back: whole or in pieces the same, and every lie found out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tts.backends.vllm_children import NEUTRAL
from tts.backends.vllm_wire import Reply, body_of
from tts.errors import BackendError, TransientError
from tts.fakes import letters
from tts.protocols import GenerationRequest
from tts.types import Completion, Finish, Message, Prompt, Sampling

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = Prompt((Message(role="user", content="hi"),), "hi\n", (104, 105, 10))


def request(**changes: Any) -> GenerationRequest:
    values: dict[str, Any] = {
        "prompt": PROMPT, "text": "", "token_ids": (), "count": 1, "seed": 4096, "max_tokens": 40,
        "delimiters": ("\n\n",), "sampling": Sampling(temperature=0.7), **changes,
    }  # fmt: skip
    return GenerationRequest(**values)


def body(priority: int | None = None, **changes: Any) -> dict[str, Any]:
    return body_of("m", PROMPT.token_ids, request(**changes), priority=priority)


def test_what_is_sent() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, stops=("END",))
    assert body(count=3, sampling=sampling) == {
        "model": "m", "prompt": [104, 105, 10], "n": 3, "seed": 4096, "max_tokens": 40, "temperature": 0.7,
        "top_p": 0.9, "top_k": 5, "stop": ["\n\n", "END"], "include_stop_str_in_output": True,
        "skip_special_tokens": True, "return_token_ids": True, "repetition_penalty": 1.0, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "min_p": 0.0,
    }  # fmt: skip


def test_what_the_model_suggests_is_never_taken() -> None:
    assert body().items() >= NEUTRAL.items()


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"delimiters": ()}, {}),
        ({"logprobs": True}, {"logprobs": 0, "return_tokens_as_token_ids": True}),
        ({"top_logprobs": 4}, {"logprobs": 4, "return_tokens_as_token_ids": True}),
        ({"cancellable": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"priority": 0}, {"priority": 0}),
        ({"priority": 7}, {"priority": 7}),
    ],
)
def test_what_is_sent_only_where_it_is_wanted(changes: dict[str, Any], sent: dict[str, Any]) -> None:
    optional = ("stop", "include_stop_str_in_output", "logprobs", "return_tokens_as_token_ids", "stream",
                "stream_options", "priority")  # fmt: skip
    stops = {} if "delimiters" in changes else {"stop": ["\n\n"], "include_stop_str_in_output": True}
    assert {name: value for name, value in body(**changes).items() if name in optional} == sent | stops


def test_children_drawn_without_chance_are_so_many_prompts() -> None:
    greedy = Sampling(temperature=0)
    many, one = body(count=3, sampling=greedy), body(sampling=greedy)
    assert (many["prompt"], many["n"]) == ([[104, 105, 10]] * 3, 1)
    assert (one["prompt"], one["n"]) == ([104, 105, 10], 1)


def choice(text: str, reason: str = "stop", stopped: Any = "\n\n", index: int = 0, *, end: bool = False) -> Any:
    ids = [*letters(text), *([0] if end else [])]
    return {
        "index": index, "text": text, "token_ids": ids, "finish_reason": reason, "stop_reason": stopped,
        "logprobs": {
            "token_logprobs": [-float(at) for at in range(len(ids))],
            "top_logprobs": [{"token_id:1": -2.0, "token_id:2": -1.0, "token_id:3": -3.0} for _ in ids],
        },
    }  # fmt: skip


def reply(*choices: Any, prompt_tokens: int = 3, cached: int | None = 2) -> dict[str, Any]:
    details = None if cached is None else {"cached_tokens": cached}
    return {"choices": list(choices), "usage": {"prompt_tokens": prompt_tokens, "prompt_tokens_details": details}}


def read(asked: GenerationRequest, *said: Any) -> dict[int, Completion]:
    """Return the completions by index, once each."""
    taken, found = Reply("host:1", asked, 3), dict[int, Completion]()
    for one in said:
        for index, completion in taken.take(one):
            if completion is not None:
                assert index not in found
                found[index] = completion
        taken.check()
    return found


@pytest.mark.parametrize(
    ("said", "finish", "text", "tokens"),
    [
        (choice("one\n\n"), Finish.DELIMITER, "one\n\n", 5),
        (choice("oneEND", stopped="END"), Finish.STOP, "oneEND", 6),
        (choice("one", stopped=None, end=True), Finish.EOS, "one", 4),
        (choice("one", stopped=0, end=True), Finish.EOS, "one", 4),
        (choice("", stopped=None, end=True), Finish.EOS, "", 1),
        (choice("o" * 40, "length", None), Finish.LENGTH, "o" * 40, 40),
    ],
)
def test_why_a_child_ended(said: Any, finish: Finish, text: str, tokens: int) -> None:
    (child,) = read(request(sampling=Sampling(stops=("END",))), reply(said)).values()
    assert (child.finish, child.text, child.tokens) == (finish, text, tokens)
    assert child.token_ids is not None
    assert list(child.token_ids) == said["token_ids"]
    assert child.logprobs is child.top_logprobs is None


def test_log_probabilities_are_the_greatest_first_as_many_as_asked_for() -> None:
    (child,) = read(request(logprobs=True, top_logprobs=2), reply(choice("a\n\n"))).values()
    assert list(child.logprobs or ()) == [0, -1, -2]
    assert list(child.top_logprobs or ()) == [-1, -2] * 3


def test_what_the_server_had_cached() -> None:
    taken = Reply("host:1", request(), 3)
    assert taken.cached() == 0
    taken.take(reply(choice("a\n\n")))
    assert taken.cached() == 2
    Reply("host:1", request(), 3).take(reply(choice("a\n\n"), cached=None))
    many = Reply("host:1", request(count=2), 3)
    many.take(reply(choice("a\n\n"), choice("a\n\n", index=1), prompt_tokens=6, cached=6))
    assert many.cached() == 3, "a prompt is counted once a request"


@st.composite
def in_pieces(draw: st.DrawFn) -> tuple[int, list[Any], list[Any]]:
    """Draw children, whole and cut into events in any order, the text behind its tokens as engines hold it back."""
    texts = draw(st.lists(st.text("ab\n", max_size=6).filter(lambda text: "\n\n" not in text), min_size=1, max_size=4))
    wholes = [
        choice(text + "\n\n", index=at) if draw(st.booleans()) else choice(text, "stop", None, at, end=True)
        for at, text in enumerate(texts)
    ]
    queues = [draw(cut(whole)) for whole in wholes]
    pieces: list[Any] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        more = [queue.pop(0)]
        while any(queues) and draw(st.booleans()):
            more.append(draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
        pieces.append({"choices": more})
    pieces.append({**reply(), "choices": []})
    return len(texts), [reply(*wholes)], pieces


@st.composite
def cut(draw: st.DrawFn, whole: Any) -> list[Any]:
    size, told = len(whole["token_ids"]), whole["logprobs"]
    ends = [*sorted(draw(st.lists(st.integers(0, size), max_size=4))), size]
    shown = [
        *sorted(draw(st.lists(st.integers(0, len(whole["text"])), min_size=len(ends) - 1, max_size=len(ends) - 1)))
    ]
    shown.append(len(whole["text"]))
    pieces, start, said = [], 0, 0
    for end, until in zip(ends, shown, strict=True):
        piece = {"index": whole["index"], "text": whole["text"][said:until], "token_ids": whole["token_ids"][start:end]}
        piece["logprobs"] = {name: rows[start:end] for name, rows in told.items()}
        pieces.append(piece | {"finish_reason": None, "stop_reason": None})
        start, said = end, until
    pieces[-1] |= {name: whole[name] for name in ("finish_reason", "stop_reason")}
    return pieces


@given(in_pieces())
def test_a_reply_in_pieces_is_the_reply_whole(said: tuple[int, list[Any], list[Any]]) -> None:
    count, whole, pieces = said
    asked = request(count=count, logprobs=True, top_logprobs=2)
    assert read(asked, *pieces) == read(asked, *whole)
    assert len(read(asked, *whole)) == count


def without(name: str) -> Callable[[Any], None]:
    return lambda said: said["choices"][0].pop(name)


def with_(name: str, value: Any) -> Callable[[Any], None]:
    return lambda said: said["choices"][0].update({name: value})


LIES: dict[str, tuple[Callable[[Any], object], str]] = {
    "no token ids": (without("token_ids"), "ignores return_token_ids"),
    "token ids of nothing": (with_("token_ids", None), "ignores return_token_ids"),
    "too few tokens": (with_("finish_reason", "length"), "lowers max_tokens"),
    "the stop is not in the text": (with_("text", "one"), "drops stop texts"),
    "a stop that nobody asked for": (with_("stop_reason", "o"), "nobody asked for"),
    "an unknown reason": (with_("finish_reason", "content_filter"), "not known here, 'content_filter'"),
    "an index out of range": (with_("index", 1), "another form"),
    "an index below": (with_("index", -1), "not awaited"),
    "an index that is none": (with_("index", "first"), "another form"),
    "a child twice": (lambda said: said["choices"].append(said["choices"][0]), "not awaited"),
    "no text": (without("text"), "another form"),
    "a text that is none": (with_("text", 5), "another form"),
    "tokens that are texts": (with_("token_ids", ["a"]), "another form"),
    "tokens beyond all vocabularies": (with_("token_ids", [1 << 40]), "another form"),
    "no reason": (without("finish_reason"), "another form"),
    "no choices": (lambda said: said.pop("choices"), "another form"),
    "choices of nothing": (lambda said: said.update(choices=None), "another form"),
    "a choice that is none": (lambda said: said.update(choices=[3]), "another form"),
    "no log-probabilities": (with_("logprobs", None), "5 tokens, but 0 log-probabilities"),
    "too few of them": (lambda said: said["choices"][0]["logprobs"]["token_logprobs"].pop(), "5 tokens, but 4"),
    "too few rows": (lambda said: said["choices"][0]["logprobs"]["top_logprobs"].pop(), "5 tokens, but 4"),
    "no rows": (lambda said: said["choices"][0]["logprobs"].pop("top_logprobs"), "5 tokens, but 0"),
    "a short row": (lambda said: said["choices"][0]["logprobs"]["top_logprobs"][0].popitem(), "gives 2 log-prob"),
    "a value that is none": (
        lambda said: said["choices"][0]["logprobs"].update(token_logprobs=[None] * 5), "another form"
    ),
    "another prompt": (lambda said: said["usage"].update(prompt_tokens=4), "read 4 tokens where 3 were sent"),
    "a prompt that is not told": (lambda said: said["usage"].pop("prompt_tokens"), "read None tokens"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_found_out(lie: str) -> None:
    spoil, found = LIES[lie]
    asked = request(logprobs=True, top_logprobs=3)
    said = reply(choice("one\n\n"))
    assert read(asked, copy.deepcopy(said)), "the same without the lie is taken"
    spoil(said)
    with pytest.raises(BackendError, match=f"host:1.*{found}") as raised:
        read(asked, said)
    assert not isinstance(raised.value, TransientError)


@pytest.mark.parametrize("said", [None, [], "text", 3, {}, {"choices": 3}])
def test_what_is_no_reply(said: Any) -> None:
    with pytest.raises(BackendError, match="host:1: a reply of another form"):
        read(request(), said)


def test_a_child_that_the_server_gave_up_may_be_drawn_again() -> None:
    with pytest.raises(TransientError, match=r"host:1, child 0: the server gave it up \(abort\)"):
        read(request(), reply(choice("on", "abort", None)))
