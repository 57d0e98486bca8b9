"""The public surface."""

from __future__ import annotations

import inspect

import pytest

import tts
import tts.testing

PUBLIC = {
    "Aggregation", "Answer", "Budget", "Candidate", "Ended", "Event", "Message", "Needs", "Outcome", "Problem", "Retry",
    "Sampling", "Search", "SolveOptions", "Strategy", "TTSError", "Usage", "__version__", "best", "generator", "keep",
    "register", "solve", "solve_many", "solve_many_sync", "solve_sync", "strategy", "stream", "stream_sync", "verifier",
    "vote",
}  # fmt: skip
FOR_TESTS = {
    "FakeClock", "LawBroken", "Schedule", "Script", "ScriptedGenerator", "ScriptedVerifier", "at_once", "letters",
    "check_generator", "check_scorer", "check_strategy", "check_verifier", "cut", "paced", "shuffled", "tree_script",
}  # fmt: skip


def test_nothing_is_public_by_accident() -> None:
    assert set(tts.__all__) == PUBLIC
    assert set(tts.testing.__all__) == FOR_TESTS


@pytest.mark.parametrize("module", [tts, tts.testing], ids=lambda module: module.__name__)
def test_what_is_exported_is_there_sorted_and_explained(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    for name in names:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name


def test_every_error_is_in_the_tree_drawn_at_the_top() -> None:
    from tts import errors

    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
    drawn = errors.__doc__ or ""
    for kind in kinds:
        assert kind.__name__ in drawn
        assert issubclass(kind, tts.TTSError)
        assert (inspect.getdoc(kind) or "").startswith(("Raised", "Base")), kind


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert tts.__version__ == version("inference-time-scaling")
