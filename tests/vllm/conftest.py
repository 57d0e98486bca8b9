"""Servers for the tests on the real engine, started side by side; what is skipped here fails the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.vllm.served import GENERATES, POLICY, PRM, RUNNING, SCORES_EVERY_TOKEN, SCORES_THE_END, Server
from tts.backends.vllm_server import VLLMServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from _pytest.terminal import TerminalReporter

LIMIT = 300
"""Seconds of a test, the start of the servers that it is first to use included."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests the time that starting a server takes."""
    for item in items:
        item.add_marker(pytest.mark.timeout(LIMIT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the servers' logs with a failure."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {server.name}", server.tail()) for server in RUNNING]
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped anything: what is not run here is run nowhere."""
    reporter: TerminalReporter | None = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers; all of them end with the tests."""
    folder: Path = tmp_path_factory.mktemp("servers")

    def start(name: str, model: str, flags: tuple[str, ...]) -> Server:
        return Server(name, model, flags, folder)

    yield start
    for server in list(RUNNING):
        server.kill()


class Fleet:
    """The servers of a session, begun together before anyone waits for one."""

    def __init__(self, start: Callable[..., Server]) -> None:
        self._start = start
        self._replicas = 0
        self.policy = start("policy", POLICY, GENERATES)
        self.spare = self._begin_replica()
        self.prm = start("prm", PRM, SCORES_THE_END)
        self.prm_of_every_token = start("prm-of-every-token", PRM, SCORES_EVERY_TOKEN)

    def renew(self) -> None:
        """Begin a replica in place of one that was killed, so that it is up when it is needed."""
        if self.spare not in RUNNING:
            self.spare = self._begin_replica()

    def _begin_replica(self) -> Server:
        self._replicas += 1
        return self._start(f"replica-{self._replicas}", POLICY, GENERATES)


@pytest.fixture(scope="session")
def fleet(start: Callable[..., Server]) -> Fleet:
    """All servers that are always needed."""
    return Fleet(start)


@pytest.fixture(scope="session")
def policy(fleet: Fleet) -> Server:
    """Serves the policy; nobody kills it."""
    fleet.policy.wait()
    return fleet.policy


@pytest.fixture(scope="session")
def prm(fleet: Fleet) -> Server:
    """Serves the reward model: its word on the last token."""
    fleet.prm.wait()
    return fleet.prm


@pytest.fixture(scope="session")
def prm_of_every_token(fleet: Fleet) -> Server:
    """Serves the reward model: its word on every token."""
    fleet.prm_of_every_token.wait()
    return fleet.prm_of_every_token


@pytest.fixture
def replica(fleet: Fleet) -> Server:
    """Serves the policy beside `policy`; a test may kill it."""
    fleet.renew()
    fleet.spare.wait()
    return fleet.spare


@pytest.fixture
def generator(policy: Server) -> VLLMServer:
    """Draws from the policy; `solve` and `check_generator` close it."""
    return VLLMServer(policy.url, task="countdown", max_tokens=96, step_tokens=32)
