"""Which engines make a pool: such as serve the same, now and when they come back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.backends.replicas import Classifier, Fleet, Server, draw, fleet
from tts.backends.pool import GeneratorPool, ScorerPool
from tts.backends.routing import rendezvous
from tts.errors import BackendError, ParameterError, TransientError


async def test_replicas_of_another_model_are_refused_by_name_of_the_difference() -> None:
    servers = [Server("a"), Server("b")]
    servers[1].served = replace(servers[1].able, context=8192, fingerprint={"model": "other"})
    with pytest.raises(BackendError, match=r"differs from the others in context \(8192, not 4096\), model \('other'"):
        await GeneratorPool(servers).connect()


async def test_a_misconfigured_replica_is_refused_though_others_would_do() -> None:
    class Wrong(Server):
        async def connect(self) -> None:
            raise ParameterError("the tokenizer given is not that of the server")

    with pytest.raises(ParameterError, match="tokenizer"):
        await GeneratorPool([Server("a"), Wrong("b")]).connect()


async def test_one_that_is_down_at_first_takes_part_once_it_is_there_and_serves_the_same() -> None:
    made = Fleet(2)
    made.home.endpoint.state = "gone"
    await made.pool.connect()
    assert list(made.pool.down) == [made.home.endpoint.url]
    own, made.home.served = made.home.served, replace(made.home.served, fingerprint={"model": "other"})
    made.home.endpoint.state, made.time.seconds = "up", 1.0
    await draw(made.pool, "hot")
    await draw(made.pool, "hot")
    assert "differs from the others in model" in str(made.pool.down[made.home.endpoint.url])
    made.home.served, made.time.seconds = own, 3.0
    await draw(made.pool, "hot")
    await draw(made.pool, "hot")
    assert made.calls() == [1, 3]


async def test_none_there_at_first() -> None:
    made = Fleet(2)
    made.home.endpoint.state = made.next.endpoint.state = "gone"
    with pytest.raises(TransientError, match="no replica is up"):
        await made.pool.connect()
    made.next.endpoint.state = "up"
    await made.pool.connect()
    await draw(made.pool, "hot")


async def test_one_that_fails_for_good_is_left_if_it_is_no_more_what_it_was() -> None:
    made = await fleet()
    made.home.fault = BackendError("status 404: no such model")
    with pytest.raises(BackendError, match="404") as raised:
        await draw(made.pool, "hot")
    assert raised.value is made.home.fault  # it serves what it did, so this is about the request
    made.home.served = replace(made.home.served, name="other")
    with pytest.raises(TransientError, match="another replica goes on"):
        await draw(made.pool, "hot")
    assert "differs from the others in name" in str(made.pool.down[made.home.endpoint.url])


async def test_a_scorer_that_dies_is_left_too() -> None:
    scorers = {name: Classifier(name) for name in ("a", "b")}
    pool = ScorerPool(list(scorers.values()))
    await pool.connect()
    home, other = (scorers[url[7:]] for url in rendezvous(str([1, 2]), [f"http://{name}" for name in scorers]))
    home.endpoint.state = "gone"
    with pytest.raises(TransientError, match="another replica goes on"):
        await pool.probabilities([[1, 2]], [[1]])
    assert len((await pool.probabilities([[1, 2]], [[1]]))[0]) == 1
    assert (home.asked, other.asked) == ([1], [1])
