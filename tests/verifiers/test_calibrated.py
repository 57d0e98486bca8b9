"""A calibrated verifier: its values are mapped, all else is the verifier's own, and the map has to be its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.test_calibration import calibration
from tts.calibration import Isotonic, Platt
from tts.capabilities import VerifierCapabilities
from tts.errors import NeedsError, ScoreCountError, ScoreValueError, TransientError
from tts.protocols import Path, PathScore
from tts.testing import ScriptedVerifier, check_verifier
from tts.types import Message
from tts.verifiers.calibrated import Calibrated

ABLE = VerifierCapabilities(name="judge", steps=True, calls=3, extra_tokens=7, fingerprint={"weights": "abc"})
QUESTION = (Message(role="user", content="What is 7 times 8?"),)
PATHS = [Path(QUESTION, ("a", "b"), False), Path(QUESTION, ("c",), True)]


def judge(**more: Any) -> ScriptedVerifier:
    return ScriptedVerifier(able=ABLE, **more)


async def test_it_keeps_the_clauses() -> None:
    await check_verifier(lambda: Calibrated(judge(), calibration()))
    await check_verifier(lambda: Calibrated(judge(), calibration(Isotonic(scores=(0.2, 0.6), values=(0.1, 0.9)))))


async def test_every_value_is_mapped_and_costs_are_kept() -> None:
    made = Platt(slope=0.5, intercept=0.2)
    plain = await judge().score(PATHS)
    mapped = await Calibrated(judge(), calibration(made)).score(PATHS)
    for before, after in zip(plain, mapped, strict=True):
        assert list(after.values) == made(before.values).tolist()
        assert (after.tokens, after.calls) == (before.tokens, before.calls)
    assert mapped[0].values != plain[0].values


def test_capabilities_are_the_verifiers_own_and_the_fingerprint_says_which_map() -> None:
    able = Calibrated(judge(), calibration()).capabilities
    other = Calibrated(judge(), calibration(Platt(slope=3, intercept=0))).capabilities
    assert able.name == "calibrated(judge)"
    assert able.fingerprint == {"weights": "abc", "calibration": calibration().digest} != other.fingerprint
    assert replace(able, name=ABLE.name, fingerprint=ABLE.fingerprint) == ABLE


async def test_a_map_of_another_verifier_is_refused_unless_it_is_wanted() -> None:
    other = calibration(fingerprint={"weights": "xyz"})
    with pytest.raises(NeedsError, match="another verifier"):
        await Calibrated(judge(), other).connect()
    with pytest.raises(NeedsError, match="another verifier"):
        await Calibrated(judge(), other).score(PATHS)
    taken = Calibrated(judge(), other, any_verifier=True)
    await taken.connect()
    assert len(await taken.score(PATHS)) == 2


class Late(ScriptedVerifier):
    """Knows what it is once it is connected."""

    closed = False

    async def connect(self) -> None:
        self.able = replace(self.able, fingerprint={"weights": "abc"})

    async def aclose(self) -> None:
        self.closed = True


async def test_the_verifier_is_connected_first_and_closed_too() -> None:
    inner = Late(able=replace(ABLE, fingerprint={}))
    verifier = Calibrated(inner, calibration())
    await verifier.connect()
    await verifier.aclose()
    assert inner.closed


async def test_what_is_no_score_stays_an_error() -> None:
    def spoil(replies: list[PathScore]) -> list[PathScore]:
        return [replace(reply, values=[float("nan")] * len(reply.values)) for reply in replies]

    with pytest.raises(ScoreValueError, match=r"calibrated\(judge\): path 0: a score is nan; expected a probability"):
        await Calibrated(judge(spoil=spoil), calibration()).score(PATHS)
    with pytest.raises(ScoreCountError, match="2 paths, but 1 scores"):
        await Calibrated(judge(spoil=lambda replies: replies[:1]), calibration()).score(PATHS)


async def test_faults_that_may_pass_come_as_themselves() -> None:
    async def fail(call: int, tokens: int) -> None:
        raise TransientError("busy")

    with pytest.raises(TransientError, match="busy"):
        await Calibrated(judge(schedule=fail), calibration()).score(PATHS)
