import pytest

import benchmark

pytestmark = pytest.mark.no_torch


def test_every_public_name_resolves():
    for name in benchmark.__all__:
        assert callable(getattr(benchmark, name)), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        benchmark.nothing  # noqa: B018
