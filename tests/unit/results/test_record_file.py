"""Everything that reads a record reads it alike: the store, the tables, the checks, the plan."""

import json
import os

import pytest

from benchmark.core.record import RECORD, UnknownVersion
from benchmark.results import record_file, store
from benchmark.results.load import load_results
from benchmark.results.validate import check_run
from tests.helpers.records import record

pytestmark = pytest.mark.no_torch


def contents():
    whole = json.loads(record().model_dump_json())
    return {
        "torn": json.dumps(whole)[:100],
        "foreign": "[]",
        "half a letter": json.dumps(whole | {"reason": "\ud800"}),
        "not a number": json.dumps(whole).replace('"seed": 0', '"seed": NaN'),
        "of a later version": json.dumps(whole | {"schema_version": 99}),
    }


def all_refuse(root, folder, words):
    assert store.read_record(folder) is None
    with pytest.warns(UserWarning, match=words):
        assert load_results(root).empty
    (finding,) = check_run(folder)
    assert finding.severity == "fault" and words in finding.what


@pytest.mark.parametrize("what", contents())
def test_what_one_reader_refuses_all_refuse(tmp_path, what):
    folder = tmp_path / "small/camvid/net/linear/id"
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(contents()[what])
    with pytest.raises(ValueError) as error:
        record_file.read(folder)
    assert isinstance(error.value, UnknownVersion) == (what == "of a later version")
    all_refuse(tmp_path, folder, str(error.value)[:20].partition("(")[0])


def test_a_pipe_is_waited_for_by_none(tmp_path):
    folder = tmp_path / "small/camvid/net/linear/id"
    folder.mkdir(parents=True)
    os.mkfifo(folder / RECORD)
    all_refuse(tmp_path, folder, "not a file")
