"""Work that is spread over processes is the same work."""

import gc
import multiprocessing
import os
import signal
import sys
import time

import psutil
import pytest

from benchmark.core.parallel import spread, uncollected

pytestmark = pytest.mark.no_torch


@pytest.mark.parametrize("worth", [False, True])
def test_results_come_in_the_order_of_the_items(worth):
    known = {number: number**2 for number in range(100)}  # seen by the others without being sent
    with spread(lambda number: known[number], list(known), worth) as found:
        assert found() == list(known.values())


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_work_that_is_worth_it_is_done_elsewhere():
    for worth in (False, True):
        with spread(lambda _: os.getpid(), range(8), worth) as found:
            assert (os.getpid() in found()) is not worth


@pytest.mark.parametrize("worth", [False, True])
def test_an_error_of_the_work_is_raised_where_its_results_are_asked_for(worth):
    with (
        spread(lambda number: 1 / number, [1, 0, 2], worth) as found,
        pytest.raises(ZeroDivisionError),
    ):
        found()


def test_work_may_spread_its_own_work():
    def outer(number):
        with spread(lambda own: own * number, [1, 2], False) as found:
            return sum(found())

    with spread(outer, [1, 2, 3], True) as found:
        assert found() == [3, 6, 9]


@pytest.mark.parametrize("worth", [False, True])
def test_nothing_to_do_is_done(worth):
    with spread(str, [], worth) as found:
        assert found() == []


def test_what_a_process_had_not_done_when_it_died_is_done_here():
    here = os.getpid()

    def work(number):
        if number == 3 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with spread(work, range(8), True) as found:
        assert found() == list(range(8))


def test_an_error_of_the_block_ends_what_was_begun():
    with pytest.raises(KeyError), spread(time.sleep, [0.1] * 50, True):
        raise KeyError
    assert not multiprocessing.active_children()


def _waits_for_ever(sent):
    def work(_):
        sent.send(os.getpid())
        time.sleep(600)

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with spread(work, [1, 2], True) as found:
        found()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_processes_end_with_the_one_that_began_them():
    received, sent = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_waits_for_ever, args=(sent,))
    process.start()
    others = [psutil.Process(received.recv()) for _ in range(2)]
    process.kill()
    process.join()
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_processes_have_no_handlers_of_the_one_that_began_them():
    former = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with spread(lambda _: signal.getsignal(signal.SIGTERM), [1, 2], True) as found:
            assert found() == [signal.SIG_DFL] * 2
    finally:
        signal.signal(signal.SIGTERM, former)


def test_garbage_is_collected_again_as_before():
    assert gc.isenabled()
    with uncollected(), uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
