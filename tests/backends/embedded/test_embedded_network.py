"""The exported network against a plain one, and against itself in other batches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tts.backends.embedded.checkpoint import read_checkpoint
from tts.backends.embedded.export import export
from tts.backends.embedded.network import PLACES, Lanes, Network, Reading, is_independent
from tts.errors import ParameterError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]


def norm(x: Array, weight: Array, epsilon: float) -> Array:
    normed: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight
    return normed


def turn(x: Array, base: float) -> Array:
    """Rotate [head, place, size] as Llama does: the first half with the second."""
    size = x.shape[-1]
    angles = np.outer(np.arange(x.shape[1]), base ** (-np.arange(0, size, 2) / size))
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)


def plain_logits(folder: Path, tokens: list[int]) -> Array:
    """A Llama in double precision, without a cache, straight from the paper."""
    checkpoint = read_checkpoint(folder)
    shape = checkpoint.shape
    weights = {name: array.astype(np.float64) for name, array in checkpoint.weights.items()}

    def project(x: Array, name: str, heads: int) -> Array:
        return (x @ weights[name].T).reshape(len(tokens), heads, -1).transpose(1, 0, 2)

    x = weights["model.embed_tokens.weight"][tokens]
    later = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    for layer in range(shape.layers):
        p = f"model.layers.{layer}"
        h = norm(x, weights[f"{p}.input_layernorm.weight"], shape.epsilon)
        query = turn(project(h, f"{p}.self_attn.q_proj.weight", shape.query_heads), shape.rope_base)
        key = turn(project(h, f"{p}.self_attn.k_proj.weight", shape.key_heads), shape.rope_base)
        value = project(h, f"{p}.self_attn.v_proj.weight", shape.key_heads)
        key, value = (np.repeat(a, shape.query_heads // shape.key_heads, axis=0) for a in (key, value))
        scores = query @ key.transpose(0, 2, 1) / shape.head_size**0.5 + later
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = chances / chances.sum(-1, keepdims=True) @ value
        x = x + mixed.transpose(1, 0, 2).reshape(len(tokens), -1) @ weights[f"{p}.self_attn.o_proj.weight"].T
        h = norm(x, weights[f"{p}.post_attention_layernorm.weight"], shape.epsilon)
        gate, up = h @ weights[f"{p}.mlp.gate_proj.weight"].T, h @ weights[f"{p}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{p}.mlp.down_proj.weight"].T
    x = norm(x, weights["model.norm.weight"], shape.epsilon)
    for head in ("score", "lm_head", "model.embed_tokens"):
        if f"{head}.weight" in weights:
            return x @ weights[f"{head}.weight"].T + weights.get(f"{head}.bias", 0.0)
    raise AssertionError("no head")


def sequences(count: int, longest: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 50, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def everything(network: Network, tokens: list[list[int]]) -> list[Array]:
    """Logits after every token, each sequence alone and token by token."""
    found = []
    for sequence in tokens:
        lane = Lanes(network, 1)
        steps = [lane.step(np.array([[t]]), np.array([[p]]))[0].copy() for p, t in enumerate(sequence)]
        found.append(np.stack(steps))
    return found


def read_all(lanes: Lanes, tokens: list[list[int]]) -> list[Array]:
    logits = lanes.read([Reading(0, sequence, range(len(sequence))) for sequence in tokens])
    return np.split(logits, np.cumsum([len(sequence) for sequence in tokens])[:-1])


@pytest.mark.parametrize("name", ["policy", "judge"])
def test_logits_are_those_of_a_plain_network(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    tokens = sequences(6, 40)
    for found, sequence in zip(read_all(Lanes(Network(folder / "model.onnx", 1), 6), tokens), tokens, strict=True):
        np.testing.assert_allclose(found, plain_logits(folder, sequence), atol=1e-4)


def test_an_untied_head_in_half_precision_is_read(policy: Path, tmp_path: Path, checkpoint_writer: Any) -> None:
    folder = tmp_path / "untied"
    checkpoint_writer.write_folder(folder, "LlamaForCausalLM", "lm_head", rope_parameters=None, rope_theta=100.0)
    weights = checkpoint_writer.random_weights(checkpoint_writer.CONFIG, "lm_head", 3)
    halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in weights.items()}
    (folder / "model.safetensors").write_bytes(checkpoint_writer.safetensors(halves, "BF16"))
    export(folder)
    tokens = sequences(1, 20)
    found = read_all(Lanes(Network(folder / "model.onnx", 1), 1), tokens)
    np.testing.assert_allclose(found[0], plain_logits(folder, tokens[0]), atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_bitwise_the_same_alone_and_in_any_batch(policy: Path, threads: int) -> None:
    tokens = sequences(64, 100)
    alone = everything(Network(policy / "model.onnx", 1), tokens)
    network = Network(policy / "model.onnx", threads)
    lanes = Lanes(network, 64)
    lanes.memory[...] = np.random.default_rng(1).normal(0, 9, lanes.memory.shape)  # left by earlier rows
    for found, expected in zip(read_all(lanes, tokens), alone, strict=True):
        assert np.array_equal(found, expected)
    longest = sorted(range(64), key=lambda row: -len(tokens[row]))
    for place in range(len(tokens[longest[0]])):
        live = [row for row in longest if len(tokens[row]) > place]
        step = np.array([[tokens[row][place]] for row in live])
        logits = lanes.step(step, np.full_like(step, place))
        for row, found in zip(live, logits, strict=True):
            assert np.array_equal(found, alone[row][place])


def test_rows_are_bitwise_the_same_whatever_was_read_before(policy: Path) -> None:
    network = Network(policy / "model.onnx", 1)
    tokens = sequences(8, 120, seed=2)
    alone = everything(network, tokens)
    whole = Lanes(network, 8)
    read_all(whole, tokens)
    rng = np.random.default_rng(3)
    for _ in range(5):
        lanes, readings = Lanes(network, 8), []
        for row, sequence in enumerate(tokens):
            known = int(rng.integers(0, len(sequence)))
            lanes.load(row, 1, whole.save(row, 0, known))
            readings.append(Reading(known, sequence[known:], [len(sequence) - known - 1]))
        for found, expected in zip(lanes.read(readings), alone, strict=True):
            assert np.array_equal(found, expected[-1])


def test_memory_grows_with_the_longest_row_and_is_given_back(policy: Path) -> None:
    lanes = Lanes(Network(policy / "model.onnx", 1), 2)
    lanes.read([Reading(0, [5] * PLACES, [0]), Reading(0, [6], [0])])
    assert lanes.places == PLACES
    kept = lanes.save(1, 0, 1)
    lanes.read([Reading(PLACES, [5], [0])])
    assert lanes.places == 2 * PLACES
    assert np.array_equal(lanes.save(1, 0, 1), kept)
    lanes.clear()
    assert lanes.places == PLACES


def test_where_batches_disturb_rows_tokens_are_computed_one_by_one(
    policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(policy / "model.onnx", 1)
    assert network.independent
    tokens = sequences(4, 30)
    expected = read_all(Lanes(network, 4), tokens)
    run, shapes = Lanes._run, []

    def disturbed(self: Lanes, first: int, tokens: Array, positions: Array, places: Array) -> Array:
        shapes.append(tokens.shape)
        return run(self, first, tokens, positions, places) + np.float32(tokens.size - 1)

    monkeypatch.setattr(Lanes, "_run", disturbed)
    assert not is_independent(network)
    network.independent = False
    shapes.clear()
    for found, wanted in zip(read_all(Lanes(network, 4), tokens), expected, strict=True):
        assert np.array_equal(found, wanted)
    assert set(shapes) == {(1, 1)}


def test_an_export_is_reproducible_and_names_its_checkpoint(policy: Path) -> None:
    before = (policy / "model.onnx").read_bytes()
    assert export(policy).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}}, "llama3"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "gelu"),
    ],
)
def test_other_networks_are_refused(policy: Path, tmp_path: Path, changes: dict[str, object], named: str) -> None:
    config = json.loads((policy / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ParameterError, match=named):
        export(tmp_path)


def test_a_checkpoint_without_its_file_is_refused(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((policy / "config.json").read_bytes())
    with pytest.raises(ParameterError, match=r"model\.safetensors"):
        export(tmp_path)
