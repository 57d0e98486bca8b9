"""The events of a trace as cues of its replay: what they are about, and what a backend said in them."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from tts.types import Completion, Finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.trace import SearchTrace

Cue = dict[str, Any]
"""An event of the trace in which a backend, the clock or the budget had a part."""

SETTLING = ("node", "status", "verified")
"""What is told when a search leaves a block."""


def name_of(kind: str, data: dict[str, Any]) -> str:
    """Return what an event is recognised by when the search tells it again."""
    return f"{kind} {data.get('key', data.get('keys', ''))}"


def child_key(parent: str, draw: int) -> str:
    """Return a child's key as traces write it."""
    return f"{parent}.{draw}" if parent else str(draw)


def path_texts(trace: SearchTrace) -> dict[str, str]:
    """Return what the path to each node says."""
    texts = {"": ""}
    for event in trace.events:
        if event["event"] == "node":
            texts[event["key"]] = texts[event["key"].rpartition(".")[0]] + event["text"]
    return texts


def end_of(cues: Sequence[Cue]) -> int:
    """Return from where on the search asks for nothing more."""
    end = len(cues)
    while end and cues[end - 1]["event"] in SETTLING:
        end -= 1
    return end


def split_verdict(cues: list[Cue], place: int, count: int) -> bool:
    """Divide the judging at a place, and its verdict, into one of its first `count` paths and one of the others.

    In the recorded search the scoring may have begun late enough to take in what arrived after another batch was drawn.
    A replay waits for that batch, and the scoring begins meanwhile with what is there. The first part bears all tokens.
    """
    judging = cues[place]
    keys = judging["keys"]
    names = {"verified", "verdicts"}
    ends = [i for i in range(place, len(cues)) if cues[i]["event"] in names and cues[i]["keys"][:1] == keys[:1]][:2]
    if {cues[i]["event"] for i in ends} != names:
        return False
    verified, verdicts = (cues[i] for i in ends)
    first, rest = keys[:count], keys[count:]
    calls = even_parts(verified["calls"], len(keys))
    cues[ends[0]] = {**verified, "keys": rest, "calls": sum(calls[count:]), "tokens": 0}
    cues[ends[1]] = {**verdicts, "keys": rest, "values": verdicts["values"][count:]}
    cues[place : place + 1] = [
        {**judging, "keys": first},
        {**verified, "keys": first, "calls": sum(calls[:count])},
        {**verdicts, "keys": first, "values": verdicts["values"][:count]},
        {**judging, "keys": rest},
    ]
    return True


def even_parts(total: int, count: int) -> list[int]:
    """Divide a whole number into so many parts that differ by one at most."""
    part, more = divmod(total, count)
    return [part + (place < more) for place in range(count)]


def all_started(cues: Sequence[Cue]) -> bool:
    """Whether every child that was planned was asked for; some may have waited for others to the end."""
    requests = [cue for cue in cues if cue["event"] == "request"]
    started = {child_key(cue["parent"], cue["first"] + place) for cue in requests for place in range(cue["count"])}
    planned: int = sum(cue["drawn"] for cue in cues if cue["event"] == "batch")
    return len(started) == planned


def completion_of(cue: Cue) -> Completion:
    """Return what the generator delivered as this node."""
    return Completion(
        text=cue["text"],
        finish=Finish(cue["finish"]),
        tokens=cue["tokens"],
        token_ids=array("i", cue["token_ids"]) if "token_ids" in cue else None,
        logprobs=array("f", cue["logprobs"]) if "logprobs" in cue else None,
    )
