"""A scripted vLLM server with a model, a prefix cache and counters, that tells the truth unless it is told which lies.

Its model says a character a token, each of which hangs on all before it, so that a greedy path goes on the same from
anywhere; sampled ones hang on the seed too.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.backends.fake_vllm import END, FakeVLLM, Response, pieces, refusal, text_of
from tts.seeds import derive

if TYPE_CHECKING:
    from tests.backends.fake_vllm import Call

ALPHABET = "abcdefgh ,"
BLOCK = 8
CONTEXT = 128
TOP = 20


class LyingVLLM(FakeVLLM):
    """The server; `lies` names what it does wrong.

    Attributes:
        lies: What it is not honest about.
        gone: Set when a client that read a stream of several samples asks for the counters.
    """

    def __init__(self, *lies: str, context: int = CONTEXT, task: str = "generate") -> None:
        super().__init__(context=context)
        self.task = task
        self.lies = set(lies)
        self.pace = self._wait_for_the_client
        self.gone = threading.Event()
        self.queries = self.hits = 0
        self.drawn = 0
        self._seen = Counter[int]()
        self._blocks: set[tuple[int, ...]] = set()
        self._held = 0
        self._after = 0

    def answer(self, call: Call) -> Response:
        if call.path == "/metrics":
            return self._metrics()
        if call.path == "/load" and "no /load" not in self.lies:
            return self._load()
        said = super().answer(call)
        if call.path in ("/classify", "/pooling") and said.status == 200:
            scored = self._scored(call, said.body)
            return scored if isinstance(scored, Response) else Response(body=scored)
        return said

    def _load(self) -> Response:
        if self._after:
            self.gone.set()
        self._after += bool(self._held)
        return Response(body={"server_load": self.running if self._after < 2 else 0})

    # Counters: a stream of several samples is held after a few tokens until these are asked for, that is until its
    # reader has left.
    def _metrics(self) -> Response:
        if "no /metrics" in self.lies:
            return Response(404, {"detail": "Not Found"})
        running = self.running
        if self._held:
            self._after += 1
            if "goes on" in self.lies:
                running = max(0, 2 - self._after)
                self.generated += 10_000 * (self._after == 2)
            self.gone.set()
        hits = 0 if "denied by metrics" in self.lies else self.hits
        values = {
            "num_requests_running": running, "num_requests_waiting": 0, "generation_tokens_total": self.generated,
            "prefix_cache_queries_total": self.queries, "prefix_cache_hits_total": hits,
        }  # fmt: skip
        return Response(
            body="".join(f'vllm:{name}{{engine="0"}} {value}.0\n' for name, value in values.items()).encode()
        )

    def _wait_for_the_client(self) -> None:
        self._held += 1 if self._holds else 0
        if self._held > 8:
            self.gone.wait(10)

    _holds = False

    def _complete(self, body: Any) -> Response:
        body = {"n": 1, "seed": 0, "temperature": 1.0, **body}
        refused = self._refused(body)
        if refused is not None:
            return refused
        self._clamp(body)
        cached = self._read(body["prompt"]) if isinstance(body["prompt"], list) else 0
        count = body["n"]
        children = [self.child(body["prompt"], body, place) for place in range(count)]
        if "equal texts" in self.lies:
            children = children[:1] * count
        if "one child" in self.lies:
            children = children[:1]
        usage = self._usage(body, children, cached)
        if body.get("stream"):
            self._begin_stream(count)
            return Response(chunks=[*self._pieces(children), {"choices": [], "usage": usage}])
        self.generated += sum(len(child["token_ids"]) for child in children)
        choices = [{"index": index, **self._shown(child)} for index, child in enumerate(children)]
        return Response(body={"choices": choices, "usage": usage})

    def _begin_stream(self, count: int) -> None:
        self.gone.clear()
        self._held = self._after = 0
        self._holds = count > 1

    def _pieces(self, children: list[dict[str, Any]]) -> list[Any]:
        if "one piece" in self.lies:
            return [{"choices": [{"index": at, **child} for at, child in enumerate(children)]}]
        return [{"choices": [self._shown(choice) for choice in event["choices"]]} for event in pieces(children)]

    def _refused(self, body: Any) -> Response | None:
        if "priority" in body and "any priority" not in self.lies and not isinstance(body["priority"], int):
            return refusal("Input should be a valid integer")
        if body.get("priority") and "no priorities" in self.lies:
            return refusal("Got priority 1 but Priority scheduling is not enabled.")
        if body.get("logprobs", 0) > (5 if "few logprobs" in self.lies else TOP):
            return refusal(f"Requested sample logprobs of {body['logprobs']}")
        if "a_field_that_nobody_knows" in body and "strict" in self.lies:
            return refusal("unknown field", 422)
        if len(body["prompt"]) >= self.context and "cuts prompts" not in self.lies:
            return refusal(f"This model's maximum context length is {self.context} tokens.")
        return None

    def _clamp(self, body: Any) -> None:
        room = max(1, self.context - len(body["prompt"]))
        body["max_tokens"] = min(body["max_tokens"], room, *([12] if "clamps" in self.lies else []))

    def _usage(self, body: Any, children: list[dict[str, Any]], cached: int) -> dict[str, Any]:
        told: dict[str, Any] | None = {"cached_tokens": 3 if "always cached" in self.lies else cached}
        if "no token details" in self.lies:
            told = None
        read = len(body["prompt"]) + ("rewrites prompts" in self.lies)
        sampled = sum(len(child["token_ids"]) for child in children)
        return {"prompt_tokens": read, "completion_tokens": sampled, "prompt_tokens_details": told}

    def _read(self, prompt: list[int]) -> int:
        """Count what is cached, at least one token being computed, and cache the rest."""
        ends = range(BLOCK, len(prompt) + 1, BLOCK)
        cached = 0
        for end in ends:
            if tuple(prompt[:end]) in self._blocks and end < len(prompt):
                cached = end
        if "no prefix cache" not in self.lies:
            self._blocks.update(tuple(prompt[:end]) for end in ends)
        self.queries += len(prompt)
        self.hits += cached
        return cached

    def child(self, prompt: list[int] | str, body: Any, place: int) -> dict[str, Any]:
        self.drawn += 1
        before = prompt if isinstance(prompt, str) else text_of(prompt)
        if "new turn" in self.lies:
            before = before.partition("\n")[0] + "\n"
        text, stopped = self._say(before, body, self._seed(body, place))
        reason = next((stop for stop in body.get("stop", ()) if text.endswith(stop)), None)
        ids = [*map(ord, text), *([END] if stopped and reason is None else [])]
        kept = text.removesuffix(reason or "") if "drops the delimiter" in self.lies else text
        child: dict[str, Any] = {
            "text": kept,
            "token_ids": ids,
            "finish_reason": "stop" if stopped else "length",
            "stop_reason": None if "no stop reason" in self.lies else reason,
        }
        if "logprobs" in body:
            child["logprobs"] = self._logprobs(before, ids, body)
        return child

    def _seed(self, body: Any, place: int) -> int:
        if not body["temperature"]:
            return 0
        if "seeds change nothing" in self.lies:
            return 1
        if "seeds ignored" in self.lies:
            return 1 + self.drawn
        if "seed of n" in self.lies and body["n"] > 1:
            return 9000 + place
        return 1 + int(body["seed"]) + place

    def _say(self, before: str, body: Any, seed: int) -> tuple[str, bool]:
        """Return the text and whether it ended by itself."""
        text = ""
        while len(text) < body["max_tokens"]:
            if derive("end", before + text) % 53 == 7 and not body.get("ignore_eos") and text:
                return text, True
            text += ALPHABET[derive(before + text, seed) % len(ALPHABET)]
            if any(text.endswith(stop) for stop in body.get("stop", ())):
                return text, True
        return text, False

    def _shown(self, child: dict[str, Any]) -> dict[str, Any]:
        """Lie about token ids."""
        if "no ids" in self.lies:
            return {**child, "token_ids": None}
        ids = child["token_ids"]
        return {**child, "token_ids": [65 + at % 26 for at in range(len(ids))]} if "made-up ids" in self.lies else child

    def _logprobs(self, before: str, ids: list[int], body: Any) -> dict[str, Any]:
        values = [-1.0 - derive(before, at) % 100 / 100 for at in range(len(ids))]
        if "batched arithmetic" in self.lies:
            self._seen[body["seed"]] += 1
            values = [value - 1e-7 * self._seen[body["seed"]] for value in values]
        others = [*(body.get("logprob_token_ids") or ()), *range(200, 200 + body["logprobs"] - 1)]
        rows = [
            {f"token_id:{own}": value, **{f"token_id:{other}": -6.0 for other in others}}
            for own, value in zip(ids, values, strict=True)
        ]
        if "logprobs of others" in self.lies:
            rows = [{**row, "token_id:199": -0.5} for row in rows]
        if "logprobs short" in self.lies:
            values = values[1:]
        if "probabilities" in self.lies:
            values = [-value for value in values]
        return {"token_logprobs": values, "top_logprobs": rows}

    def _scored(self, call: Call, said: Any) -> Any:
        """Lie about scores."""
        sent = call.body["input"]
        if any(len(ids) > self.context for ids in sent) and "cuts prompts" not in self.lies:
            return refusal("This model's maximum context length is exceeded.")
        for ids in sent if "reads its cache" in self.lies else ():
            self._read(ids)
        if "reads its cache" not in self.lies:
            self.queries += sum(map(len, sent))
        for entry in said["data"]:
            scale = (
                len(sent[entry["index"]])
                if "looks ahead" in self.lies
                else len(sent)
                if "hangs on others" in self.lies
                else 1
            )
            key = "probs" if "probs" in entry else "data"
            entry[key] = self._scaled(entry[key], scale)
        if "drops one" in self.lies and len(sent) > 1:
            said["data"].pop()
        return said

    def _scaled(self, scores: Any, by: int) -> Any:
        if isinstance(scores[0], list):
            return [self._scaled(row, by) for row in scores]
        good = scores[1] / by
        return [4.0, -3.0] if "logits" in self.lies else [1 - good, good]
