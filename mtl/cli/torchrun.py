"""A command that `torchrun` started several times: each process finds the others by what stands in its environment."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:  # options are checked before torch is imported
    from mtl.strategies.strategy import Strategy
    from mtl.study.setup import StudySetup
    from mtl.train.processes import Processes

#: How long a process waits for another that lives: for an evaluation, and for the report at the end.
_PATIENCE = datetime.timedelta(hours=2)


def number_of_processes() -> int:
    """How many times `torchrun` started this command; 1 where it was started without."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def leads() -> bool:
    """Whether this is the process that writes and speaks."""
    return number_of_processes() == 1 or os.environ["RANK"] == "0"


def leave(code: int) -> NoReturn:
    """End the process with this code.

    One of several that did what it should leaves at once: threads of Gloo may outlive the connection, and a process
    that Python takes down piece by piece under them now and then aborts, after all its work is done. One that failed
    takes its time, so that `torchrun` sees first why: another that was killed.
    """
    if number_of_processes() == 1 or code not in (0, 75):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def check_alone(command: str) -> None:
    """Raise `ValueError` where `torchrun` started a command that does not divide its work among processes."""
    if (size := number_of_processes()) > 1:
        raise ValueError(
            f"mtl {command}: torchrun started {size} processes, and only mtl train divides a run among them; a "
            "population trains many runs in one process, and --engine ray in several"
        )


def take_gpu(device: str) -> None:
    """Make the GPU of this process its device, where there are several.

    Raises:
        ValueError: there are fewer than processes on this machine.
    """
    import torch

    if number_of_processes() == 1 or device == "cpu" or not torch.cuda.is_available():
        return
    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= there:
        here = os.environ.get("LOCAL_WORLD_SIZE", "several")
        raise ValueError(f"torchrun started {here} processes on a machine with {there} GPUs: each takes one")
    torch.cuda.set_device(place)


def check_divided(strategy: Strategy, setting: StudySetup) -> None:
    """Raise `ValueError` where the processes that `torchrun` started cannot divide a run."""
    if (size := number_of_processes()) == 1:
        return
    from mtl.train.batches import micro_batches, pools
    from mtl.train.job import check_together
    from mtl.train.processes import check_parts

    check_together(setting.settings, strategy, setting.benchmark.tasks, processes=True)
    if "implicit" in strategy.needs:
        raise ValueError(f"torchrun started {size} processes: {strategy} needs the Hessian of a whole batch in one")
    settings = setting.settings
    drawn = pools(setting.splits.train, settings.batch_size, settings.sampling)
    sizes = {task: count for task, (_, count) in drawn.items()}
    check_parts(sizes.values(), micro_batches(settings.accumulate, sizes), size)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes | None]:
    """The processes of this command, connected as long as the block lasts; None where it is the only one.

    Args:
        device: `cpu` or `cuda`; on GPUs tensors go by NCCL, on the CPU by Gloo.
    """
    size = number_of_processes()
    if size == 1:
        yield None
        return
    import torch.distributed as dist

    from mtl.train.processes import Processes

    dist.init_process_group("gloo" if device == "cpu" else "cpu:gloo,cuda:nccl", timeout=_PATIENCE)
    processes = Processes(dist.get_rank(), size)
    with warnings.catch_warnings():
        if not processes.leads:
            warnings.simplefilter("ignore")  # the leading process warns of the same
        yield processes
    dist.destroy_process_group()  # not after an error: it would wait for those that have not heard of it
