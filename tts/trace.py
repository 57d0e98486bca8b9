"""Traces: one JSON line per event, written as it happens; reading them gives the search graph back."""

from __future__ import annotations

import json
from array import array
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict

from tts import registry
from tts.__about__ import __version__
from tts.budget import Budget
from tts.errors import FileFormatError, ParameterError
from tts.graph import Key, Node, Origin, SearchGraph, Status, ThinkingSplitter, format_key
from tts.types import Event, Finish, Message, Problem, Prompt, Sampling

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    from tts.capabilities import Capabilities, VerifierCapabilities
    from tts.protocols import AnswerReader, Strategy
    from tts.run import Run

FORMAT = 1


class TraceWriter:
    """Appends events to a file, a line each, flushed, so that whatever ends the process loses none that was written.

    Several problems may share a file: each line carries its problem's number in the file, as `search`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, anew.

        Raises:
            ParameterError: It cannot be written.
        """
        try:
            self._file: IO[str] = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 (`close` closes it)
        except OSError as error:
            raise ParameterError(f"trace: {path}: cannot be written: {error.strerror}") from None
        self._searches = 0

    def scribe(self) -> Callable[[Event], None]:
        """Return an observer for one more search."""
        number = self._searches
        self._searches += 1
        return lambda event: self._write(number, event)

    def _write(self, number: int, event: Event) -> None:
        line = {"event": event.kind, "search": number, "seconds": round(event.seconds, 6), **event.data}
        self._file.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def header(
    run: Run, strategy: Strategy, budget: Budget, seed: int, fingerprint: Mapping[str, object]
) -> dict[str, object]:
    """Return what the first line of a search says: all that is needed to run it again."""
    return {
        "format": FORMAT,
        "version": __version__,
        "problem": run.problem.model_dump(mode="json"),
        "messages": [message.model_dump() for message in run.prompt.messages],
        "prompt": run.prompt.text,
        "prompt_ids": list(run.prompt.token_ids),
        "strategy": strategy.name,
        "parameters": strategy.model_dump(mode="json"),
        "order_sensitive": strategy.order_sensitive,
        "sampling": run.sampling.model_dump(mode="json"),
        "caps": {"path": run.caps.path, "step": run.caps.step},
        "budget": budget.model_dump(mode="json", exclude_none=True),
        "seed": seed,
        "generator": _able(run.generator.capabilities),
        "verifier": None if run.verifier is None else _able(run.verifier.capabilities),
        "fingerprint": fingerprint,
    }


def _able(capabilities: Capabilities | VerifierCapabilities) -> dict[str, object]:
    fields = asdict(capabilities)
    del fields["fingerprint"]
    return fields


class Asked(TypedDict):
    """What a search was asked for beside the problem and the backends."""

    strategy: Strategy
    sampling: Sampling
    budget: Budget
    seed: int


@dataclass(slots=True)
class SearchTrace:
    """The events of one search as they were read.

    Attributes:
        start: The first line: problem, strategy, parameters, sampling, seed.
        events: All lines, in order.
        outcome: What the last line says; None where the search never came to its end.
    """

    start: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    outcome: dict[str, Any] | None = None

    @property
    def problem(self) -> Problem:
        """What was asked."""
        return Problem.model_validate(self.start["problem"])

    @property
    def prompt(self) -> Prompt:
        """The problem as the generator read it."""
        messages = tuple(Message.model_validate(message) for message in self.start["messages"])
        return Prompt(messages, self.start["prompt"], tuple(self.start["prompt_ids"]))

    def options(self) -> Asked:
        """Return what was asked for beside the problem: strategy, sampling, budget and seed.

        `solve(trace.problem, generator=..., verifier=..., **trace.options())` asks for the same search again.
        """
        return {
            "strategy": registry.strategy(self.start["strategy"], **self.start["parameters"]),
            "sampling": Sampling.model_validate(self.start["sampling"]),
            "budget": Budget.model_validate(self.start["budget"]),
            "seed": self.start["seed"],
        }

    def graph(self, reader: AnswerReader) -> SearchGraph:
        """Rebuild the search graph; `reader` reads its answers."""
        sampling = Sampling.model_validate(self.start["sampling"])
        graph = SearchGraph(self.prompt, reader, ThinkingSplitter(sampling.thinking_open, sampling.thinking_close))
        nodes: dict[Key, Node] = {(): graph.root}
        for event in self.events:
            if event["event"] == "node":
                node = _read_node(graph, nodes, event)
                nodes[node.key] = graph.append(node)
            elif event["event"] == "score":
                nodes[parse_key(event["key"])].score = event["score"]
                nodes[parse_key(event["key"])].scores = tuple(event["scores"])
            elif event["event"] == "status":
                nodes[parse_key(event["key"])].status = Status(event["status"])
        return graph

    def generated(self) -> int:
        """Sampled tokens that the events sum to; equals the outcome's `usage.generated`."""
        return sum(event["tokens"] for event in self.events if event["event"] in ("node", "failed"))


def parse_key(text: str) -> Key:
    """Read "0.3.1" back."""
    return tuple(map(int, text.split("."))) if text else ()


def _read_node(graph: SearchGraph, nodes: Mapping[Key, Node], event: Mapping[str, Any]) -> Node:
    key = parse_key(event["key"])
    parent = nodes.get(key[:-1])
    if parent is None:
        raise FileFormatError(f"trace: node {event['key']} comes before its parent {format_key(key[:-1])}")
    node = Node(graph, parent, key[-1], event["text"], Origin(event["origin"]))
    parent.draws = max(parent.draws, key[-1] + 1)
    node.status = Status(event["status"])
    node.tokens = event["tokens"]
    # Given text takes room in a path, though it was not sampled; what was cancelled takes none.
    if node.status is not Status.CANCELLED:
        node.path_tokens += len(event.get("token_ids", ())) if node.origin is Origin.GIVEN else event["tokens"]
    node.steps = event["steps"]
    node.path_steps += node.steps
    node.seed = event["seed"]
    node.finish = Finish(event["finish"]) if event["finish"] else None
    if "token_ids" in event:
        node.token_ids = array("i", event["token_ids"])
    if "logprobs" in event:
        node.logprobs = array("f", event["logprobs"])
    if "top_logprobs" in event:
        node.top_logprobs = array("f", event["top_logprobs"])
    return node


def read_trace(path: str | os.PathLike[str]) -> list[SearchTrace]:
    """Read every search of a file. A last line cut off by a crash is passed over.

    Raises:
        FileFormatError: The file cannot be read, or a line of it cannot; names the line.
    """
    searches: dict[int, SearchTrace] = {}
    for number, event in _lines(Path(path)):
        search = event.get("search", 0)
        if event.get("event") == "start":
            if event.get("format") != FORMAT:
                found = event.get("format")
                raise FileFormatError(f"{path}:{number}: trace format {found!r}; this version reads {FORMAT}")
            searches[search] = SearchTrace(event)
        elif search not in searches:
            raise FileFormatError(f"{path}:{number}: an event before the start of its search")
        else:
            searches[search].events.append(event)
            if event["event"] == "end":
                searches[search].outcome = event["outcome"]
    if not searches:
        raise FileFormatError(f"{path}: no search in this file")
    return list(searches.values())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise FileFormatError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(event, dict) or "event" not in event:
            raise FileFormatError(f"{path}:{number}: not an event")
        yield number, event
