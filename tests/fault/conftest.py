import pytest

from benchmark.planning import plugins
from methods.base import METHODS, register
from tests.fault.torture import PLUGIN
from tests.helpers.tiny import Strange


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The benchmark of `tests.helpers.tiny`; its file, to be named as a plug-in."""
    from benchmark.data.base import BENCHMARKS

    path = tmp_path_factory.mktemp("plugin") / "tiny.py"
    path.write_text(PLUGIN)
    plugins.load_files([path])
    yield path
    BENCHMARKS.pop("tiny")
    for name in [name for name, known in plugins._TYPED.items() if known == path]:
        del plugins._TYPED[name]


@pytest.fixture(scope="module")
def strange():
    register("strange")(Strange)
    yield
    METHODS._loaded.pop("strange")
