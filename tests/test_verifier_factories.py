"""Verifiers by name: what each is made of, that a search runs with it, and how a wrong name is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import tts
from tts import registry
from tts.errors import FileFormatError, NeedsError, ParameterError, ProblemError, UnknownNameError, VerifierError
from tts.protocols import Path, connect
from tts.strategies.best_of_n import BestOfN
from tts.types import Message
from tts.verifier_factories import calibrated, noisy_oracle, oracle
from tts.verifiers.calibrated import Calibrated
from tts.verifiers.exact import ExactAnswers

if TYPE_CHECKING:
    from pathlib import Path as FilePath

PROBLEM = registry.task("countdown").items(1)[0].problem
COUNTS = {"task": "countdown", "generator": "embedded", "problems": 9, "good": 9, "bad": 9}
RUNNING = [
    "cascade:statistical:mean_logprob+noisy-oracle:countdown",
    "combined:statistical:mean_logprob+oracle:countdown",
    "embedded",
    "noisy-oracle:countdown",
    "oracle:countdown",
    "outcome:embedded",
    "statistical:mean_logprob",
    "statistical",
]


@pytest.mark.parametrize("spec", RUNNING)
async def test_a_search_runs_with_it(spec: str) -> None:
    outcome = await tts.solve(PROBLEM, strategy=BestOfN(n=4), generator="embedded", verifier=spec)
    assert outcome.error is None
    assert all(candidate.score is not None and 0 <= candidate.score <= 1 for candidate in outcome.candidates)


@pytest.mark.parametrize("make", [oracle, noisy_oracle])
async def test_an_oracle_that_labels_steps_guides_a_beam(make: object) -> None:
    assert callable(make)
    judge = make("countdown-hard", stepwise=True)
    problem = registry.task("countdown-hard").items(1)[0].problem
    outcome = await tts.solve(problem, strategy="beam", generator="embedded", verifier=judge, budget="400 tokens")
    assert outcome.error is None
    assert any(len(candidate.scores) > 1 for candidate in outcome.candidates)


async def test_what_judges_finished_paths_does_not_guide_a_beam() -> None:
    with pytest.raises(NeedsError, match="finished ones only"):
        await tts.solve(PROBLEM, strategy="beam", generator="embedded", verifier="oracle:countdown")


async def test_steps_and_whole_paths_do_not_mix_by_themselves() -> None:
    with pytest.raises(ParameterError, match="aggregation"):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="combined:embedded+statistical")


async def test_confidences_need_what_the_embedded_model_does_not_give() -> None:
    with pytest.raises(NeedsError, match="20 greatest log-probabilities"):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="statistical:self_certainty")


async def test_a_judge_of_words_that_the_model_does_not_know_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises((ParameterError, ProblemError)):
        await tts.solve(PROBLEM, strategy="best_of_n", generator="embedded", verifier="generative:embedded")


async def test_a_noisy_oracle_knows_the_task_alone_and_reads_no_answer_in_thinking() -> None:
    item = registry.task("countdown").items(1)[0]
    judge = noisy_oracle("countdown", accept_right=1, reject_wrong=1)
    right = f"The answer is \\boxed{{{item.gold}}}"
    texts = {right: 1.0, f"<think>{right}</think> I do not know.": 0.0}
    for text, value in texts.items():
        assert [one.values for one in await judge.score([Path(item.problem.messages, (text,), True)])] == [[value]]
    with pytest.raises(VerifierError, match=r"oracle\(countdown\): no gold answer for the question .*; there are 1000"):
        await judge.score([Path((Message(role="user", content="What?"),), (right,), True)])


@pytest.mark.parametrize("rules", ["keys", "canonical"])
async def test_exact_compares_with_the_answers_of_a_file(rules: str, tmp_path: FilePath) -> None:
    file = tmp_path / "answers.json"
    file.write_text(json.dumps({"What is a half?": "0.5"}))
    judge = registry.make("verifier", f"exact:{file}", {"rules": rules, "workers": 1})
    assert isinstance(judge, ExactAnswers)
    asked = (Message(role="user", content="What is a half?"),)
    paths = [Path(asked, (rf"It is \boxed{{{said}}}",), True) for said in (r"\frac{1}{2}", "2")]
    try:
        assert [one.values for one in await judge.score(paths)] == [[1.0], [0.0]]
    finally:
        await judge.aclose()


async def test_members_of_a_combination_have_options_and_members_of_their_own() -> None:
    inner = {"use": "combined:statistical+oracle:countdown", "how": "minimum"}
    noisy = {"use": "noisy-oracle:countdown", "accept_right": 1.0, "reject_wrong": 1.0}
    judge = registry.make("verifier", "cascade:statistical", {"members": [inner, noisy], "high": 2, "low": -1})
    outcome = await tts.solve(PROBLEM, strategy=BestOfN(n=4), generator="embedded", verifier=judge)  # type: ignore[arg-type]
    assert {candidate.score for candidate in outcome.candidates} <= {0.0, 1.0}
    assert judge.capabilities.fingerprint["1.combined"] == "minimum"  # type: ignore[attr-defined]


async def test_a_map_makes_its_verifier_with_the_options_it_had(tmp_path: FilePath) -> None:
    file, spec, options = tmp_path / "map.json", "noisy-oracle:countdown", {"reject_wrong": 0.7, "stepwise": True}
    able = registry.make("verifier", spec, options).capabilities  # type: ignore[attr-defined]
    about = {"verifier": able.name, "fingerprint": able.fingerprint, "steps": True, "spec": spec, "options": options}
    file.write_text(json.dumps({"map": {"kind": "platt", "slope": 1.0, "intercept": 0.0}, "fitted_on": about | COUNTS}))
    await connect(calibrated(str(file)))
    await connect(calibrated(str(file), of={"use": spec, **options}))
    with pytest.raises(NeedsError, match=r"reject_wrong 0\.7 there, 0\.9 here"):
        await connect(calibrated(str(file), of={"use": spec, "stepwise": True}))


async def test_a_map_names_its_verifier(tmp_path: FilePath) -> None:
    file = tmp_path / "map.json"
    file.write_text(
        json.dumps(
            {
                "map": {"kind": "platt", "slope": 1.0, "intercept": 0.0},
                "fitted_on": {"verifier": "another", "fingerprint": {}, "steps": True, "spec": "embedded"} | COUNTS,
            }
        )
    )
    assert isinstance(calibrated(str(file), any_verifier=True), Calibrated)


@pytest.mark.parametrize(
    ("spec", "error", "said"),
    [
        ("combined:", ParameterError, "name verifiers"),
        ("combined:embedded+", ParameterError, "name verifiers"),
        ("calibrated:", ParameterError, "calibrated:FILE"),
        ("exact:", ParameterError, "exact:FILE"),
        ("exact:nowhere.json", ParameterError, "cannot be read"),
        ("executable:", ParameterError, "executable:FILE"),
        ("calibrated:nowhere.json", FileFormatError, "nowhere.json"),
        ("executable:nowhere.json", ParameterError, "cannot be read"),
        ("generative:embed", UnknownNameError, "embed"),
        ("oracle:countdwn", UnknownNameError, "countdown"),
        ("outcome:embed", UnknownNameError, "embedded"),
        ("statistical:entropy", ParameterError, "mean_logprob"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_there_is(spec: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        registry.verifier(spec)


@pytest.mark.parametrize("text", ["[]", "{}", '{"question": 3}', '"assert True"'])
@pytest.mark.parametrize("kind", ["exact", "executable"])
def test_a_file_that_is_no_object_of_texts_is_refused(kind: str, text: str, tmp_path: FilePath) -> None:
    file = tmp_path / "texts.json"
    file.write_text(text)
    with pytest.raises(ParameterError, match="expected a JSON object"):
        registry.verifier(f"{kind}:{file}")


def test_an_option_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="option of verifier cascade 'hihg'; did you mean high"):
        registry.make("verifier", "cascade:statistical", {"hihg": 0.8})
    with pytest.raises(ParameterError, match="table with use"):
        registry.make("verifier", "combined:", {"members": [{"name": "embedded"}]})


def test_options_of_an_engine_and_limits_of_a_sandbox_reach_them(tmp_path: FilePath) -> None:
    file = tmp_path / "tests.json"
    file.write_text('{"question": "assert True"}')
    judge = registry.make("verifier", f"executable:{file}", {"limits": {"seconds": 3.0}})
    assert judge.capabilities.fingerprint["seconds"] == 3.0  # type: ignore[attr-defined]
    judge = registry.make("verifier", "outcome:embedded", {"engine": {"threads": 2}})
    assert judge.capabilities.fingerprint["threads"] == 2  # type: ignore[attr-defined]
    for spec, option in (("outcome:embedded", "engine"), (f"executable:{file}", "limits")):
        with pytest.raises(ParameterError, match="unexpected keyword argument 'minutes'"):
            registry.make("verifier", spec, {option: {"minutes": 3}})


def test_an_adapter_says_which_token_a_server_gives_scores_at() -> None:
    judge = registry.make("verifier", "vllm:http://localhost:1", {"adapter": "qwen2.5-math-prm"})
    assert judge._scorer._step_tag == "<extra_0>"  # type: ignore[attr-defined]
    judge = registry.make("verifier", "vllm:http://localhost:1", {"adapter": "qwen2.5-math-prm", "mark": "<step>"})
    assert judge._scorer._step_tag == "<step>"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("generative", {"prompt": {"skp": "<think></think>"}}, "skp="),
        ("generative", {"prompt": {"finished": "Right?"}}, "{solution}"),
        ("escalating", {"prompt": {"marker": 3}}, "marker=3"),
        ("escalating", {"slow": {"temperature": -1}}, "temperature=-1"),
    ],
)
def test_what_a_judge_is_told_otherwise_is_checked(spec: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        registry.make("verifier", f"{spec}:vllm:http://localhost:1", options)
