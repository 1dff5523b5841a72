"""Forks of a test that train together, as the processes of `--devices` do."""

import multiprocessing
import pickle
import traceback

import torch

from benchmark.engine.ranks import ALONE, join


def together(count, folder, work):
    """What `work(ranks)` returns in each of some processes; in this one where it is alone.

    Args:
        count: processes.
        folder: an empty one, in which they meet.
        work: of each of them.
    """
    if count == 1:
        return [work(ALONE)]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_do, args=(rank, count, folder / "meeting", work, pipe[1]))
        for rank, pipe in enumerate(pipes)
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    found = [pickle.loads(ours.recv_bytes()) for ours, _ in pipes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    failed = [problem for problem, _ in found if problem]
    assert not failed, "\n".join(failed)
    return [value for _, value in found]


def _do(rank, count, meeting, work, pipe):
    torch.set_num_threads(1)
    try:
        found = "", work(join(rank, count, meeting, torch.device("cpu")))
    except BaseException:
        found = traceback.format_exc(), None
    pipe.send_bytes(pickle.dumps(found))  # whole tensors, which outlive this process
