"""What a language model is told when it judges: frozen prompts, the labels of a verdict, and how a stated step is read.

Where no paper is named the wording is ours. Judges differ in the wording that they follow, so all of it can be given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from tts.errors import ParameterError, VerifierError
from tts.types import Frozen, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tts.protocols import Path

PLACE = re.compile(r"\{(problem|solution|first|second|cue|positive|negative|marker)\}")
"""Where something is put into a prompt; other braces are text."""

State = Literal["finished", "unfinished", "step"]
"""What is judged: a finished path, one that goes on, or a path up to one of its steps."""

FINISHED = "Problem:\n{problem}\n\nProposed solution:\n{solution}\n\nIs the final answer of this solution correct?"
UNFINISHED = (
    "Problem:\n{problem}\n\nBeginning of a solution, which is not finished:\n{solution}\n\n"
    "Is everything in it correct so far?"
)
STEP = (
    "Problem:\n{problem}\n\nA solution up to one of its steps:\n{solution}\n\n"
    "Is the solution correct up to and including this last step?"
)
AT_ONCE = "\n\nDo not explain. Write one line: '{cue}' followed by {positive} or {negative}."
REASONED = "\n\nFirst check every step. Then write a last line: '{cue}' followed by {positive} or {negative}."

NUMBERED = (
    "Problem:\n{problem}\n\nProposed solution, in numbered steps:\n{solution}\n\nWhich step is the first wrong one?"
)
NUMBERED_SO_FAR = (
    "Problem:\n{problem}\n\nBeginning of a solution, which is not finished, in numbered steps:\n{solution}\n\n"
    "Which step is the first wrong one?"
)
FAST = "\n\nDo not explain. Write one line: '{marker}' followed by the step's number, or by -1 if no step is wrong."
SLOW = (
    "\n\nCheck every step carefully. Then write a last line: '{marker}' followed by the number of the first wrong "
    "step, or by -1 if no step is wrong."
)

COMPARED = (
    "Problem:\n{problem}\n\nSolution A:\n{first}\n\nSolution B:\n{second}\n\nWhich solution is better? "
    "Write one line: '{cue}' followed by A or B."
)


def filled(template: str, **parts: str) -> str:
    """Return a template with its places filled, in one pass: what is put in is not looked at for places again."""
    return PLACE.sub(lambda match: parts.get(match[1], match[0]), template)


def _need_places(name: str, template: str, *places: str) -> None:
    for place in places:
        if f"{{{place}}}" not in template:
            raise ParameterError(f"the prompt's {name} has no {{{place}}}, so the judge would not see it: {template!r}")


def problem_text(messages: Sequence[Message]) -> str:
    """Return what a conversation asks: its only question, or its turns with their roles; without system messages.

    Those tell the solver how to answer, which a judge would take for what it is to do itself. Where there is nothing
    else they are what is asked.
    """
    turns = [message for message in messages if message.role != "system"] or messages
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def named(path: Path) -> str:
    """Return how errors name a path: by its length and its beginning, which do not hang on what is judged beside it."""
    text = "".join(path.steps)
    return f"the path of {len(path.steps)} steps and {len(text)} characters that begins {text[:40]!r}"


def check_path(path: Path) -> None:
    """Refuse a path in which there is nothing to judge.

    Raises:
        VerifierError: It has no steps, or says nothing.
    """
    if not "".join(path.steps).strip():
        raise VerifierError(f"{named(path)} says nothing: there is nothing to judge")


@dataclass(frozen=True, slots=True)
class Question:
    """What one verdict is asked about: a conversation, what was answered to it, and how far that goes.

    `where` is how errors name it; questions that say the same are the same.
    """

    messages: tuple[Message, ...]
    text: str
    state: State
    where: str = field(compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """What a seed is derived from."""
        return (*(part for turn in self.messages for part in (turn.role, turn.content)), self.text, self.state)


class JudgePrompt(Frozen):
    r"""How a judge is asked whether a solution is right.

    In the texts, `{problem}` and `{solution}` stand for what is judged, `{cue}`, `{positive}` and `{negative}` for the
    fields of these names, without the space around them.

    Attributes:
        system: System message; empty for none, since some chat templates refuse one.
        finished: What the user says of a finished path.
        unfinished: Of one that goes on.
        step: Of a path up to a step, whatever comes after it.
        at_once: What follows that, where a verdict is wanted without thinking.
        reasoned: What follows it where thinking comes first.
        skip: How an answer without thinking begins, before the cue: for a model that always thinks, its empty thinking
            block, such as "<think>\n\n</think>\n\n".
        cue: What the verdict's token comes after. A rationale is read up to it.
        positive: The verdict that means right, as one token; most tokenizers take the space before it as a part of it.
        negative: The one that means wrong.
        in_conversation: The path is put where it stood, as the assistant's answer in its own conversation, and the
            user's text comes after it; otherwise it is quoted as `{solution}` in a new conversation. Templates of
            models that think may leave the thinking in an answer out.
    """

    system: str = ""
    finished: str = FINISHED
    unfinished: str = UNFINISHED
    step: str = STEP
    at_once: str = AT_ONCE
    reasoned: str = REASONED
    skip: str = ""
    cue: str = "Verdict:"
    positive: str = " Yes"
    negative: str = " No"
    in_conversation: bool = False

    @model_validator(mode="after")
    def _shows_the_solution(self) -> JudgePrompt:
        for name in ("finished", "unfinished", "step") if not self.in_conversation else ():
            _need_places(name, getattr(self, name), "solution")
        return self

    def conversation(self, question: Question, *, reasoned: bool) -> tuple[Message, ...]:
        """Return the conversation whose next turn is the verdict."""
        template: str = getattr(self, question.state) + (self.reasoned if reasoned else self.at_once)
        ask = filled(
            template, problem=problem_text(question.messages), solution=question.text, cue=self.cue.strip(),
            positive=self.positive.strip(), negative=self.negative.strip(),
        )  # fmt: skip
        before = _answered(question) if self.in_conversation else ()
        return with_system(self.system, (*before, Message(role="user", content=ask)))

    def before_verdict(self, text: str, *, ended: bool) -> str | None:
        """Return what a judge says before it states its verdict, or None if it states none.

        The cue states one at the beginning of a line, of which the first counts, and anywhere in the last line, unless
        that was cut off. So one that is only spoken of does not.

        Args:
            text: What the judge says after its thinking.
            ended: It was not cut off.
        """
        cue = re.escape(self.cue.strip())
        in_last_line = rf"|{cue}(?=[^\n]*\s*\Z)" if ended else ""
        found = re.search(rf"^[ \t>#*_`-]*{cue}{in_last_line}", text, re.MULTILINE)
        return None if found is None else text[: found.start()]


SELF_EVALUATION = JudgePrompt(
    finished='Would you do better if you started over? ("Yes." or "No.")',
    unfinished='Would you do better if you started over? ("Yes." or "No.")',
    step='Would you do better if you started over? ("Yes." or "No.")',
    at_once="",
    cue="",
    positive="No",
    negative="Yes",
    in_conversation=True,
)
"""Adaptive Inference-Time Compute (arXiv 2410.02725): the value is P("No") / (P("No") + P("Yes")).

The paper fine-tunes the model on preferences for this; a model that was not knows little of it.
"""

CHOICE = JudgePrompt(
    finished="{problem}\n\n{solution}\n\nIs the above solution:\n(A) Correct\n(B) Incorrect",
    unfinished="{problem}\n\n{solution}\n\nIs the above so far:\n(A) Correct\n(B) Incorrect",
    step="{problem}\n\n{solution}\n\nIs the above step of reasoning:\n(A) Correct\n(B) Incorrect",
    at_once="",
    cue="The above is: (",
    positive="A",
    negative="B",
)
"""The two choices of Self-Evaluation Guided Beam Search (Xie et al. 2023, arXiv 2305.00633): the value is P("A").

The paper's prompt is few-shot and about lines of code; this is its question alone, about steps.
"""


class LocatePrompt(Frozen):
    """How a judge is asked for the first wrong step, which it states as a number from 1, or as -1 for none.

    Attributes:
        system: System message; empty for none.
        finished: What the user says of a finished path; `{problem}`, and `{solution}` in numbered steps.
        unfinished: Of one that goes on.
        fast: What follows that, for a fast verdict; `{marker}` stands for the field.
        slow: What follows it for a slow one.
        opening: How a fast answer begins: for a model that always thinks, its empty thinking block.
        marker: What the number comes after, on a line of its own.
        cue: Where a scorer reads how likely the slow verdict is right: this is put after it, then a label.
        positive: The label that means that no step is wrong, as one token.
        negative: The one that means that a step is.
    """

    system: str = ""
    finished: str = NUMBERED
    unfinished: str = NUMBERED_SO_FAR
    fast: str = FAST
    slow: str = SLOW
    opening: str = ""
    marker: str = "First wrong step:"
    cue: str = "\n\nAre all steps correct, Yes or No? Verdict:"
    positive: str = " Yes"
    negative: str = " No"

    @model_validator(mode="after")
    def _shows_the_solution(self) -> LocatePrompt:
        for name in ("finished", "unfinished"):
            _need_places(name, getattr(self, name), "solution")
        if not self.marker.strip():
            raise ParameterError("marker is empty: a stated step is found by it")
        return self

    def conversation(self, path: Path, *, slow: bool) -> tuple[Message, ...]:
        """Return the conversation whose next turn states a step."""
        steps = "\n\n".join(f"Step {place}: {step.strip()}" for place, step in enumerate(path.steps, start=1))
        template = (self.finished if path.finished else self.unfinished) + (self.slow if slow else self.fast)
        ask = filled(template, problem=problem_text(path.messages), solution=steps, marker=self.marker.strip())
        return with_system(self.system, (Message(role="user", content=ask),))

    def stated(self, text: str, steps: int, *, ended: bool) -> int | None:
        """Return the step that a verdict states, from 0, or -1 for none; None where that cannot be read for sure.

        Read on lines that have the marker, a number and nothing after it but a full stop; marks of emphasis are no
        part of the text. A number of no step, two that differ, and one at which the text was cut off (so that digits
        may be missing) cannot be read.

        Args:
            text: What the judge says after its thinking.
            steps: How many steps there are.
            ended: It was not cut off.
        """
        said = text if ended else text[: text.rfind("\n") + 1]
        line = re.escape(self.marker.strip()) + r"[ \t*_`]*(-1|[1-9][0-9]{0,5})[ \t*_`]*\.?[ \t*_`]*$"
        found = {int(number) for number in re.findall(line, said, re.MULTILINE)}
        if len(found) != 1:
            return None
        (number,) = found
        return None if number > steps else max(number - 1, -1)


class ComparePrompt(Frozen):
    """How a judge is asked which of two solutions is better.

    Attributes:
        system: System message; empty for none.
        ask: What the user says; `{problem}`, `{first}` and `{second}` are what is compared, `{cue}` the field.
        skip: How an answer without thinking begins, before the cue.
        cue: What the verdict's token comes after.
        first: The verdict that the one shown first is better, as one token.
        second: The other one.
    """

    system: str = ""
    ask: str = COMPARED
    skip: str = ""
    cue: str = "Better solution:"
    first: str = " A"
    second: str = " B"

    @model_validator(mode="after")
    def _shows_both(self) -> ComparePrompt:
        _need_places("ask", self.ask, "first", "second")
        return self

    def conversation(self, messages: Sequence[Message], first: str, second: str) -> tuple[Message, ...]:
        """Return the conversation whose next turn is the verdict."""
        ask = filled(self.ask, problem=problem_text(messages), first=first, second=second, cue=self.cue.strip())
        return with_system(self.system, (Message(role="user", content=ask),))


def with_system(system: str, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return turns after a system message; an empty one is none, and one that they have already is replaced."""
    if not system:
        return turns
    others = (turn for turn in turns if turn.role != "system")
    return (Message(role="system", content=system), *others)


def _answered(question: Question) -> tuple[Message, ...]:
    """Return the conversation with its answer, which goes on with what the assistant had begun to say."""
    *before, last = question.messages
    if last.role == "assistant":
        return (*before, Message(role="assistant", content=last.content + question.text))
    return (*question.messages, Message(role="assistant", content=question.text))
