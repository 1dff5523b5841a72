"""Work that is spread over processes is the same work."""

import gc
import os

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


def test_garbage_is_collected_again_as_before():
    assert gc.isenabled()
    with uncollected(), uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
