"""Verifiers by name: what stands after the colon is what each is made of; options come from a file of backends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import BaseModel

from tts import registry
from tts.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.aggregation import Aggregation
    from tts.protocols import Generator, Scorer, Verifier
    from tts.tasks import LabelledTask, Task

Options = Mapping[str, Any]
Given = str | Options
"""A verifier as it is asked for: by name, or as a table with `use` and options."""
Told = TypeVar("Told", bound=BaseModel)
SCORERS = ("embedded", "torch", "vllm")
"""Engines that a verifier's model can run on."""


def embedded(model: str, *, template: str | None = None, threads: int = 1) -> Verifier:
    """Score steps with the bundled process reward model, or one of one's own; in this process, on the CPU."""
    from tts.backends.embedded import EmbeddedScorer
    from tts.verifiers.process_reward import ProcessReward

    return ProcessReward(EmbeddedScorer(model or "arithmetic-prm", template=template, threads=threads))


def torch(
    model: str, *, adapter: str = "token-classification", head: str | None = None, good: int | None = None,
    mark: str = "", labels: Sequence[int | str] | None = None, template: str | None = None, dtype: str = "auto",
    device: str = "cpu", rows: int = 8,
) -> Verifier:  # fmt: skip
    """Score steps with a reward model in transformers, in this process; `adapter` says how it is read."""
    from tts.backends.torch_scorer import TorchScorer
    from tts.verifiers.adapters import find_adapter
    from tts.verifiers.process_reward import ProcessReward

    head = head or find_adapter(adapter).head or None
    scorer = TorchScorer(model, head=head, template=template, dtype=dtype, device=device, rows=rows)
    return ProcessReward(scorer, adapter=adapter, good=good, mark=mark, labels=labels)


def vllm(
    url: str,
    *,
    adapter: str | None = None,
    good: int | None = None,
    mark: str = "",
    labels: Sequence[int | str] | None = None,
    model: str | None = None,
    template: str | None = None,
    tokenizer: str | None = None,
    key: str = "TTS_API_KEY",
    headers: Mapping[str, str] | None = None,
    timeouts: Mapping[str, float] | None = None,
    batch: int = 64,
    in_flight: int = 4,
    dollars_per_token: float | None = None,
    flops_per_token: float | None = None,
) -> Verifier:
    """Score steps with a reward model on a vLLM server, or with a language model's `labels`; `mark` is its step tag."""
    from tts.backends.vllm_scorer import VLLMScorer
    from tts.verifiers.process_reward import ProcessReward

    scorer = VLLMScorer(
        url, model, template=template, tokenizer=tokenizer, step_tag=_tag(adapter, mark), key=key, headers=headers,
        timeouts=timeouts, batch=batch, in_flight=in_flight, dollars_per_token=dollars_per_token,
        flops_per_token=flops_per_token,
    )  # fmt: skip
    return ProcessReward(scorer, adapter=adapter, good=good, mark=mark, labels=labels)


def pool(
    urls: str, *, limit: int = 256, spill: float = 1.5, watch: float = 10.0, adapter: str | None = None,
    good: int | None = None, mark: str = "", labels: Sequence[int | str] | None = None, model: str | None = None,
    template: str | None = None, tokenizer: str | None = None, key: str = "TTS_API_KEY",
    dollars_per_token: float | None = None, flops_per_token: float | None = None,
) -> Verifier:  # fmt: skip
    """Score steps as "vllm" does, on several servers of one model; `urls` has commas between them."""
    from tts.backends.pool import ScorerPool, split_urls
    from tts.backends.vllm_scorer import VLLMScorer
    from tts.verifiers.process_reward import ProcessReward

    scorers = [
        VLLMScorer(
            url, model, template=template, tokenizer=tokenizer, step_tag=_tag(adapter, mark), key=key,
            dollars_per_token=dollars_per_token, flops_per_token=flops_per_token,
        )
        for url in split_urls(urls)
    ]  # fmt: skip
    shared = ScorerPool(scorers, limit=limit, spill=spill, watch=watch)
    return ProcessReward(shared, adapter=adapter, good=good, mark=mark, labels=labels)


def _tag(adapter: str | None, mark: str) -> str | None:
    """Return the token that a server with a step tag gives scores at."""
    from tts.verifiers.adapters import find_adapter

    return mark or (find_adapter(adapter).mark if adapter else "") or None


def outcome(
    model: str,
    *,
    map: Literal["sigmoid", "softmax", "clip"] | Sequence[float] | None = None,
    good: int = 1,
    ending: str = "",
    partial: bool = False,
    engine: Options | None = None,
) -> Verifier:
    """Score whole answers with a reward model: "outcome:torch:FOLDER", "outcome:vllm:URL" or "outcome:embedded"."""
    from tts.verifiers.outcome_reward import OutcomeReward

    chosen: Any = map if isinstance(map, str) or map is None else tuple(map)
    raw = chosen is not None and chosen not in ("sigmoid", "softmax")
    return OutcomeReward(_scorer(model, engine, raw=raw), map=chosen, good=good, ending=ending, partial=partial)


def generative(
    model: str,
    *,
    thinking: Literal["off", "on", "mean"] = "off",
    preset: Literal["judge", "self_evaluation", "choice"] = "judge",
    prompt: Options | None = None,
    stepwise: bool = False,
    max_steps: int = 40,
    max_tokens: int = 1024,
    temperature: float = 0.6,
    seed: int = 0,
    engine: Options | None = None,
) -> Verifier:
    """Have a language model judge, "generative:vllm:URL": the score is its verdict token's probability.

    `prompt` is a table of what is said otherwise than in its preset (`JudgePrompt`), such as `skip` for a model that
    always thinks; `engine` one of options of the model, as of scorer and generator on that engine.
    """
    from tts.types import Sampling
    from tts.verifiers.generative import Generative
    from tts.verifiers.verdicts import CHOICE, SELF_EVALUATION, JudgePrompt

    prompts = {"judge": JudgePrompt(), "self_evaluation": SELF_EVALUATION, "choice": CHOICE}
    if preset not in prompts:
        raise UnknownNameError("preset", preset, prompts)
    return Generative(
        _scorer(model, engine, language=True), None if thinking == "off" else _generator(model, engine),
        thinking=thinking, prompt=_changed(prompts[preset], prompt), stepwise=stepwise, max_steps=max_steps,
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature), seed=seed,
    )  # fmt: skip


def escalating(
    model: str, *, verdicts: int = 8, agreement: float = 0.8, max_steps: int = 40, read: bool = False, seed: int = 0,
    prompt: Options | None = None, fast: Options | None = None, slow: Options | None = None,
    engine: Options | None = None,
) -> Verifier:  # fmt: skip
    """Have a language model give fast verdicts, and a slow one where they disagree: "escalating:vllm:URL".

    `prompt` is a table of what is said otherwise (`LocatePrompt`), such as `opening` for a model that always thinks;
    `fast` and `slow` of how verdicts are sampled (`Sampling`), `engine` of options of the model.
    """
    from tts.verifiers.escalating import FAST_SAMPLING, SLOW_SAMPLING, Escalating
    from tts.verifiers.verdicts import LocatePrompt

    return Escalating(
        _generator(model, engine), _scorer(model, engine, language=True) if read else None,
        verdicts=verdicts, agreement=agreement, max_steps=max_steps, seed=seed, prompt=_changed(LocatePrompt(), prompt),
        fast=_changed(FAST_SAMPLING, fast), slow=_changed(SLOW_SAMPLING, slow),
    )  # fmt: skip


def statistical(
    measure: str, *, k: int | None = None, window: int | None = None, share: float | None = None
) -> Verifier:
    """Score by the sampled tokens' log-probabilities, without a model: "statistical:mean_logprob" and others."""
    from tts.verifiers.statistical import Measure, Statistical

    return Statistical(cast("Measure", measure or "mean_logprob"), k=k, window=window, share=share)


def combined(
    specs: str,
    *,
    members: Sequence[Given] = (),
    how: Literal["mean", "product", "minimum"] = "mean",
    weights: Sequence[float] | None = None,
    aggregation: Aggregation | None = None,
) -> Verifier:
    """Combine verifiers, "combined:embedded+outcome:torch:FOLDER"; `members`, tables with `use`, are asked too."""
    from tts.verifiers.combined import Combined

    return Combined(_members(specs, members), how, weights=weights, aggregation=aggregation)


def cascade(
    specs: str, *, members: Sequence[Given] = (), low: float = 0.1, high: float = 0.9,
    aggregation: Aggregation | None = None,
) -> Verifier:  # fmt: skip
    """Ask verifiers in turn, cheap ones first, until one is sure: "cascade:FIRST+SECOND", then `members`."""
    from tts.verifiers.combined import Cascade

    return Cascade(_members(specs, members), (low, high), aggregation=aggregation)


def calibrated(path: str, *, of: Given | None = None, any_verifier: bool = False) -> Verifier:
    """Map scores by a file that `tts verifier evaluate --save` wrote: "calibrated:FILE"; `of` is another verifier."""
    from tts.calibration import read_calibration
    from tts.verifiers.calibrated import Calibrated

    _need("calibrated", path, "FILE")
    calibration = read_calibration(path)
    fitted = calibration.fitted_on
    if not of and not fitted.spec:
        raise ParameterError(f'calibrated:{path}: the file does not say which verifier to make: give of="..."')
    verifier = _made(of) if of else cast("Verifier", registry.make("verifier", fitted.spec, fitted.options))
    return Calibrated(verifier, calibration, any_verifier=any_verifier)


def exact(path: str, *, rules: str = "keys", workers: int = 2, seconds: float = 5.0) -> Verifier:
    """Compare answers with known ones, for research: "exact:FILE", JSON from question to answer; `rules` says how.

    `rules` is "keys" (the built-in reader's), "math_verify", or a function of yours, "module:function"; the last two
    run in worker processes that can be killed.
    """
    from tts.grading import WorkerGrader
    from tts.verifiers.exact import ExactAnswers

    golds = _texts("exact", path, "answer")
    grader = None if rules == "keys" else WorkerGrader(rules, workers=workers, seconds=seconds)
    return ExactAnswers(golds, grader=grader, name=Path(path).name)


def executable(
    path: str, *, partial_credit: bool = True, concurrency: int = 2, limits: Options | None = None
) -> Verifier:
    """Run candidate code against unit tests in a sandbox; FILE is JSON, from question to tests: "executable:FILE"."""
    from tts.sandbox import Limits, Sandbox
    from tts.verifiers.executable import Executable

    tests = _texts("executable", path, "tests")
    sandbox = Sandbox(Limits(**(limits or {})))
    return Executable(tests, partial_credit=partial_credit, concurrency=concurrency, sandbox=sandbox)


def _texts(name: str, path: str, what: str) -> dict[str, str]:
    """Read a JSON object from questions to texts.

    Raises:
        ParameterError: It cannot be read, or is something else.
    """
    _need(name, path, "FILE")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ParameterError(f"{name}:{path}: cannot be read: {error}") from None
    if not isinstance(found, dict) or not found or not all(isinstance(text, str) for text in found.values()):
        raise ParameterError(f'{name}:{path}: expected a JSON object {{"question": "{what}", ...}} with one at least')
    return found


def _need(name: str, rest: str, what: str) -> None:
    if not rest:
        raise ParameterError(f"{name} needs something after a colon: {name}:{what}")


def oracle(task: str, *, stepwise: bool = False) -> Verifier:
    """Know a task's right answers, for research: "oracle:countdown"; `stepwise` labels each step exactly."""
    from tts.verifiers.exact import Exact, ExactSteps

    found = registry.task(task)
    return ExactSteps.from_task(_labelled(found), found.items()) if stepwise else Exact.from_task(found, found.items())


def noisy_oracle(
    task: str, *, accept_right: float = 0.9, reject_wrong: float = 0.9, seed: int = 0, stepwise: bool = False
) -> Verifier:
    """Know a task's right answers, and err at given rates, for research: "noisy-oracle:countdown"."""
    from tts.verifiers.oracle import NoisyOracle

    right = oracle(task, stepwise=stepwise)
    return NoisyOracle(right, accept_right=accept_right, reject_wrong=reject_wrong, seed=seed)


def _labelled(task: Task) -> LabelledTask:
    if not hasattr(task, "label_steps"):
        raise ParameterError(f"{task.name} cannot label steps: leave stepwise out")
    return cast("LabelledTask", task)


def _members(specs: str, further: Sequence[Given]) -> list[Verifier]:
    named = specs.split("+") if specs else []
    if not all(named) or not (named or further):
        raise ParameterError(f'{specs!r}: name verifiers, with "+" between them, as embedded+statistical:mean_logprob')
    return [_made(given) for given in (*named, *further)]


def _made(given: Given) -> Verifier:
    """Make a verifier from its name, or from a table with `use` and options, as in a file of backends."""
    table = {"use": given} if isinstance(given, str) else dict(given)
    use = table.pop("use", None)
    if not isinstance(use, str):
        raise ParameterError(f'{given!r} is no verifier: expected "NAME", "NAME:ARGUMENT" or a table with use = "..."')
    return cast("Verifier", registry.make("verifier", use, table))


def _scorer(spec: str, options: Options | None, *, language: bool = False, raw: bool = False) -> Scorer:
    """Make a model that scores: a reward model, or a language model that gives probabilities of labels."""
    name, _, rest = spec.partition(":")
    further = dict(options or {})
    if name == "vllm":
        from tts.backends.vllm_scorer import VLLMScorer

        return VLLMScorer(rest, **further)
    if name == "torch":
        from tts.backends.torch_scorer import TorchScorer

        return TorchScorer(rest, **{"activation": "none" if raw else "auto", **further})
    if name == "embedded":
        from tts.backends.embedded import EmbeddedScorer

        return EmbeddedScorer(rest or ("arithmetic-policy" if language else "arithmetic-prm"), **further)
    raise UnknownNameError("engine", name, SCORERS)


def _changed(given: Told, otherwise: Options | None) -> Told:
    """Return the same but for some fields, checked."""
    return type(given)(**{**dict(given), **(otherwise or {})})


def _generator(spec: str, options: Options | None) -> Generator:
    return cast("Generator", registry.make("generator", spec, options))
