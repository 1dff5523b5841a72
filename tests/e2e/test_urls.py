"""Results and data at a URL, as a user types them."""

import json

import pytest

from benchmark.core.object_store import link
from benchmark.data import available
from benchmark.data.fake import write_fake
from benchmark.results.remote import Remote
from tests.helpers.forked import call, clean
from tests.helpers.stored import store_run


def test_results_at_a_url(tmp_path):
    url = (tmp_path / "store").as_uri()
    first = Remote(url, link(tmp_path / "first", url))
    folder = store_run(first.folder)
    first.finish()
    (tmp_path / "petseg.yaml").write_text(f"results: {url}\n")
    env = clean(BENCHMARK_CACHE=str(tmp_path / "cache"))
    shown = call("show", folder.name[:6], "--json", cwd=tmp_path, env=env)
    assert json.loads(shown.stdout)["run_id"] == folder.name
    # What a command adds is uploaded when it ends.
    own = store_run(tmp_path / "own", "bitfit")
    merged = call("results", "merge", "own", cwd=tmp_path, env=env)
    assert f"{url}: 1 copied" in merged.stdout and merged.returncode == 0
    first.update()
    assert (first.folder / own.relative_to(tmp_path / "own")).is_dir()


@pytest.mark.slow
def test_data_at_a_url(tmp_path):
    write_fake(available()["camvid"], tmp_path / "data")
    url = (tmp_path / "data").as_uri()
    env = clean(BENCHMARK_CACHE=str(tmp_path / "cache"), BENCHMARK_DATA=url)
    listed = call("data", "list", cwd=tmp_path, env=env)
    assert "at the URL, not copied yet" in listed.stdout
    done = call("data", "verify", "camvid", cwd=tmp_path, env=env)
    assert "camvid: copying" in done.stderr and "camvid:" in done.stdout
    again = call("data", "verify", "camvid", cwd=tmp_path, env=env)
    assert not again.stderr and again.stdout == done.stdout
    refused = call("data", "prepare", "camvid", cwd=tmp_path, env=env)
    assert refused.returncode == 2 and "in a folder of this machine" in refused.stderr
