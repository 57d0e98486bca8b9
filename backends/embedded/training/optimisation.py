"""One training loop for both models: Muon for matrices, AdamW for the rest, a cosine schedule."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import distributed, multiprocessing, nn

Batch = TypeVar("Batch")
_REPORT_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int
    warm_up: int
    matrix_rate: float
    """Learning rate of Muon."""
    other_rate: float
    """Learning rate of AdamW, for embeddings, norms and heads."""

    def factor(self, step: int) -> float:
        """Return the share of the learning rates at a step: a linear rise, then half a cosine to 2 %."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        progress = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2


def train(
    model: nn.Module, batches: Iterable[Batch], loss_of: Callable[[Batch], torch.Tensor], schedule: Schedule
) -> None:
    """Train in place, for as many steps as the schedule says; with the gradients of all workers."""
    optimisers = _optimisers(model, schedule)
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    model.train()
    started, mean = time.monotonic(), 0.0
    for step, batch in zip(range(schedule.steps), batches, strict=False):
        groups = [group for optimiser in optimisers for group in optimiser.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * schedule.factor(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(batch)
        torch.autograd.backward(loss)
        _share_gradients(model)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        mean += (loss.item() - mean) / min(step + 1, _REPORT_EVERY)
        if step % _REPORT_EVERY == 0 and worker() == 0:
            print(f"step {step}  loss {mean:.4f}  {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


def _optimisers(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Return Muon over the matrices inside the layers, and AdamW over everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and ".layers." in name else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=schedule.matrix_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=schedule.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def worker() -> int:
    """Return which of the workers this process is; zero where there is one."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def workers() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _share_gradients(model: nn.Module) -> None:
    """Replace the gradients by their mean over the workers."""
    if workers() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= workers()
    for gradient, mean in zip(gradients, together.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def together(work: Callable[..., None], count: int, *arguments: object) -> None:
    """Call `work(*arguments)` in so many processes that train one model on shares of every batch, one thread each.

    The same number of workers gives the same weights again; another number gives others.
    """
    with TemporaryDirectory() as folder:
        multiprocessing.spawn(_join, (count, f"file://{folder}/meeting", work, arguments), nprocs=count)


def _join(rank: int, count: int, meeting: str, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    work(*arguments)
    distributed.destroy_process_group()
