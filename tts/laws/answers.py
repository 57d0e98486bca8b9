"""Law 8: answers are grouped by what they mean, and what cannot be read does not vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts.fakes import tree_script
from tts.laws.trials import Conditions, Trial, require
from tts.seeds import derive

if TYPE_CHECKING:
    from tts.laws.bench import Bench


SPELLINGS = ("1/2", "0.5", ".50")


def spelling_script(path: str, seed: int) -> str:
    """Answer one half, spelled three ways, one third, or nothing that can be read."""
    plain = plain_script(path, seed)
    return plain.replace("1/2", SPELLINGS[seed % 3])


def plain_script(path: str, seed: int) -> str:
    """Answer one half four times in nine, one third as often as once in nine, and else nothing that can be read."""
    drawn = derive("answer", path, seed) % 9
    answer = ("1/2", "1/2", "1/2", "1/2", "1/3")[drawn] if drawn < 5 else "   "
    return tree_script()(path, seed).rpartition("\\boxed")[0] + f"({seed}) \\boxed{{{answer}}}"


def same_value(path: str) -> float:
    """Score a path by its text, whichever way an answer in it is spelled."""
    for spelling in SPELLINGS:
        path = path.replace(spelling, "1/2")
    return sum(path.encode()) % 997 / 997


async def check(bench: Bench) -> None:
    """Spelling answers otherwise, in as many letters, changes neither the votes nor what the answer means."""
    for seed in range(3):
        plain = await bench.run(Conditions(script=plain_script, value=same_value, seed=seed))
        spelled = await bench.run(Conditions(script=spelling_script, value=same_value, seed=seed))
        for trial in (plain, spelled):
            grouped(trial)
        if not bench.strategy.order_sensitive:
            _same_meaning(plain, spelled)


def _same_meaning(plain: Trial, spelled: Trial) -> None:
    one, two = (_spelled_alike(trial.ended().answer) for trial in (plain, spelled))
    require(8, one == two, "the answer hangs on spelling", plain=one, spelled=two)
    votes = [tuple(entry.votes for entry in trial.ended().candidates) for trial in (plain, spelled)]
    require(8, votes[0] == votes[1], "the votes hang on spelling", plain=votes[0], spelled=votes[1])


def _spelled_alike(answer: str | None) -> str | None:
    return "1/2" if answer in SPELLINGS else answer


def grouped(trial: Trial) -> None:
    """Check who voted, and that a readable answer is found where there is one."""
    outcome = trial.ended()
    totals: dict[str | None, set[float]] = {}
    for entry in outcome.candidates:
        if entry.answer is None:
            require(8, entry.votes is None, "what cannot be read has voted", candidate=entry)
        elif entry.votes is not None:
            totals.setdefault(_spelled_alike(entry.answer), set()).add(entry.votes)
    require(8, all(len(votes) == 1 for votes in totals.values()), "one answer, several counts", totals=totals)
    most = max((max(votes) for votes in totals.values()), default=None)
    elected = totals.get(_spelled_alike(outcome.answer), set())
    require(8, most is None or elected == {most}, "the answer has not most votes", answer=outcome.answer, totals=totals)
