"""Verifiers by name: what stands after the colon is what each is made of; options come from a file of backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from tts import registry
from tts.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tts.aggregation import Aggregation
    from tts.protocols import Generator, Scorer, Verifier
    from tts.tasks import LabelledTask

SCORERS = ("embedded", "torch", "vllm")
"""Engines that a verifier's model can run on."""


def embedded(model: str, *, template: str | None = None, threads: int = 1) -> Verifier:
    """Score steps with the bundled process reward model, or one of one's own; in this process, on the CPU."""
    from tts.backends.embedded import EmbeddedScorer
    from tts.verifiers.process_reward import ProcessReward

    return ProcessReward(EmbeddedScorer(model or "arithmetic-prm", template=template, threads=threads))


def torch(
    model: str,
    *,
    adapter: str = "token-classification",
    template: str | None = None,
    dtype: str = "auto",
    device: str = "cpu",
    rows: int = 8,
) -> Verifier:
    """Score steps with a reward model in transformers, in this process; `adapter` says how it is read."""
    from tts.backends.torch_scorer import TorchScorer
    from tts.verifiers.process_reward import ProcessReward

    scorer = TorchScorer(model, template=template, dtype=dtype, device=device, rows=rows)
    return ProcessReward(scorer, adapter=adapter)


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
        url, model, template=template, tokenizer=tokenizer, step_tag=mark or None, key=key, headers=headers,
        timeouts=timeouts, batch=batch, in_flight=in_flight, dollars_per_token=dollars_per_token,
        flops_per_token=flops_per_token,
    )  # fmt: skip
    return ProcessReward(scorer, adapter=adapter, good=good, mark=mark, labels=labels)


def pool(
    urls: str,
    *,
    limit: int = 256,
    spill: float = 1.5,
    watch: float = 10.0,
    adapter: str | None = None,
    good: int | None = None,
    mark: str = "",
    labels: Sequence[int | str] | None = None,
    model: str | None = None,
    template: str | None = None,
    tokenizer: str | None = None,
    key: str = "TTS_API_KEY",
    dollars_per_token: float | None = None,
    flops_per_token: float | None = None,
) -> Verifier:
    """Score steps as "vllm" does, on several servers of one model; `urls` has commas between them."""
    from tts.backends.pool import ScorerPool, split_urls
    from tts.backends.vllm_scorer import VLLMScorer
    from tts.verifiers.process_reward import ProcessReward

    scorers = [
        VLLMScorer(
            url, model, template=template, tokenizer=tokenizer, step_tag=mark or None, key=key,
            dollars_per_token=dollars_per_token, flops_per_token=flops_per_token,
        )
        for url in split_urls(urls)
    ]  # fmt: skip
    shared = ScorerPool(scorers, limit=limit, spill=spill, watch=watch)
    return ProcessReward(shared, adapter=adapter, good=good, mark=mark, labels=labels)


def outcome(
    model: str,
    *,
    map: Literal["sigmoid", "softmax", "clip"] | Sequence[float] | None = None,
    good: int = 1,
    ending: str = "",
    partial: bool = False,
) -> Verifier:
    """Score whole answers with a reward model: "outcome:torch:FOLDER", "outcome:vllm:URL" or "outcome:embedded"."""
    from tts.verifiers.outcome_reward import OutcomeReward

    chosen: Any = map if isinstance(map, str) or map is None else tuple(map)
    raw = chosen is not None and chosen not in ("sigmoid", "softmax")
    return OutcomeReward(_scorer(model, raw=raw), map=chosen, good=good, ending=ending, partial=partial)


def generative(
    model: str,
    *,
    thinking: Literal["off", "on", "mean"] = "off",
    preset: Literal["judge", "self_evaluation", "choice"] = "judge",
    stepwise: bool = False,
    max_steps: int = 40,
    max_tokens: int = 1024,
    temperature: float = 0.8,
    seed: int = 0,
) -> Verifier:
    """Have a language model judge, "generative:vllm:URL": the score is its verdict token's probability."""
    from tts.types import Sampling
    from tts.verifiers.generative import Generative
    from tts.verifiers.verdicts import CHOICE, SELF_EVALUATION, JudgePrompt

    prompts = {"judge": JudgePrompt(), "self_evaluation": SELF_EVALUATION, "choice": CHOICE}
    if preset not in prompts:
        raise UnknownNameError("preset", preset, prompts)
    return Generative(
        _scorer(model, language=True),
        None if thinking == "off" else _generator(model),
        thinking=thinking,
        prompt=prompts[preset],
        stepwise=stepwise,
        max_steps=max_steps,
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        seed=seed,
    )


def escalating(
    model: str, *, verdicts: int = 8, agreement: float = 0.8, max_steps: int = 40, read: bool = False, seed: int = 0
) -> Verifier:
    """Have a language model give fast verdicts, and a slow one where they disagree: "escalating:vllm:URL"."""
    from tts.verifiers.escalating import Escalating

    scorer = _scorer(model, language=True) if read else None
    return Escalating(_generator(model), scorer, verdicts=verdicts, agreement=agreement, max_steps=max_steps, seed=seed)


def statistical(
    measure: str, *, k: int | None = None, window: int | None = None, share: float | None = None
) -> Verifier:
    """Score by the sampled tokens' log-probabilities, without a model: "statistical:mean_logprob" and others."""
    from tts.verifiers.statistical import Measure, Statistical

    return Statistical(cast("Measure", measure or "mean_logprob"), k=k, window=window, share=share)


def combined(
    specs: str,
    *,
    how: Literal["mean", "product", "minimum"] = "mean",
    weights: Sequence[float] | None = None,
    aggregation: Aggregation | None = None,
) -> Verifier:
    """Combine verifiers, with "+" between them: "combined:embedded+statistical:mean_logprob"."""
    from tts.verifiers.combined import Combined

    return Combined(_members(specs), how, weights=weights, aggregation=aggregation)


def cascade(specs: str, *, low: float = 0.1, high: float = 0.9, aggregation: Aggregation | None = None) -> Verifier:
    """Ask verifiers in turn, with "+" between them, cheap ones first, until one is sure: "cascade:FIRST+SECOND"."""
    from tts.verifiers.combined import Cascade

    return Cascade(_members(specs), (low, high), aggregation=aggregation)


def calibrated(path: str, *, of: str | None = None, any_verifier: bool = False) -> Verifier:
    """Map a verifier's scores by a file that `tts verifier evaluate --save` wrote: "calibrated:FILE"; `of` names it."""
    from tts.calibration import read_calibration
    from tts.verifiers.calibrated import Calibrated

    calibration = read_calibration(path)
    spec = of or calibration.fitted_on.spec
    if not spec:
        raise ParameterError(f'calibrated:{path}: the file does not say which verifier to make: give of="..."')
    return Calibrated(registry.verifier(spec), calibration, any_verifier=any_verifier)


def executable(path: str, *, partial_credit: bool = True, concurrency: int = 2) -> Verifier:
    """Run candidate code against unit tests in a sandbox; FILE is JSON, from question to tests: "executable:FILE"."""
    from tts.verifiers.executable import Executable

    try:
        tests = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ParameterError(f"executable:{path}: cannot be read: {error}") from None
    return Executable(tests, partial_credit=partial_credit, concurrency=concurrency)


def oracle(task: str, *, stepwise: bool = False) -> Verifier:
    """Know a task's right answers, for research: "oracle:countdown"; `stepwise` labels each step exactly."""
    from tts.verifiers.exact import Exact, ExactSteps

    found = registry.task(task)
    return ExactSteps.from_task(_labelled(task), found.items()) if stepwise else Exact.from_task(found, found.items())


def noisy_oracle(
    task: str, *, accept_right: float = 0.9, reject_wrong: float = 0.9, seed: int = 0, stepwise: bool = False
) -> Verifier:
    """Know a task's right answers, and err at given rates, for research: "noisy-oracle:countdown"."""
    from tts.verifiers.oracle import NoisyOracle

    found = registry.task(task)
    items = {item.problem.question: item for item in found.items()}
    rates: dict[str, Any] = {"accept_right": accept_right, "reject_wrong": reject_wrong, "seed": seed}

    def item_of(messages: Sequence[Any]) -> Any:
        question = messages[-1].content
        if question not in items:
            raise ParameterError(f"noisy-oracle:{task}: {question[:80]!r} is no problem of the task")
        return items[question]

    if stepwise:
        labelled = _labelled(task)
        return NoisyOracle(label_steps=lambda messages, steps: labelled.label_steps(item_of(messages), steps), **rates)

    def check(messages: Sequence[Any], text: str) -> bool:
        answer = found.reader.extract(text)
        return answer is not None and found.grade(item_of(messages), answer)

    return NoisyOracle(check, **rates)


def _labelled(task: str) -> LabelledTask:
    found = registry.task(task)
    if not hasattr(found, "label_steps"):
        raise ParameterError(f"{task} cannot label steps: leave stepwise out")
    return cast("LabelledTask", found)


def _members(specs: str) -> list[Verifier]:
    if not specs:
        raise ParameterError('name the verifiers, with "+" between them, such as embedded+statistical:mean_logprob')
    return [registry.verifier(spec) for spec in specs.split("+")]


def _scorer(spec: str, *, language: bool = False, raw: bool = False) -> Scorer:
    """Make a model that scores: a reward model, or a language model that gives probabilities of labels."""
    name, _, rest = spec.partition(":")
    if name == "vllm":
        from tts.backends.vllm_scorer import VLLMScorer

        return VLLMScorer(rest)
    if name == "torch":
        from tts.backends.torch_scorer import TorchScorer

        return TorchScorer(rest, activation="none" if raw else "auto")
    if name == "embedded":
        from tts.backends.embedded import EmbeddedScorer

        return EmbeddedScorer(rest or ("arithmetic-policy" if language else "arithmetic-prm"))
    raise UnknownNameError("engine", name, SCORERS)


def _generator(spec: str) -> Generator:
    return registry.generator(spec)
