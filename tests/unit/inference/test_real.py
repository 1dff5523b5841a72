"""On real data and weights: predictions are those that the record counts."""

import pytest

import benchmark
from benchmark.data.base import IGNORE
from benchmark.execution.splits import decoded
from benchmark.planning.plan import Selection, plan
from benchmark.results import store
from tests.helpers.tiny import run

BACKBONE = "mobilenetv2_100.coral_tf2_in1k"


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["wbc"])  # its small images are enlarged
def test_predictions_give_the_counts_of_the_record(name, data_root, weights_root, tmp_path):
    sizes = {"steps": 2, "crop": 96, "batch_size": 2, "precision": "fp32"}
    chosen = Selection(
        suite="small",
        methods="lora",
        benchmarks=name,
        backbones=BACKBONE,
        seeds=(0,),
        protocol=sizes,
    )
    (record,) = run(tmp_path, chosen, data=data_root, weights=[weights_root], accept_audit=True)
    assert record.status == "done", record.reason
    (cell,) = plan(chosen)
    network = benchmark.load(record.run_id, results=tmp_path, weights=weights_root)
    stored = store.read_counts(tmp_path / cell.folder)
    for number, example in enumerate(list(decoded(name, data_root, "test"))[:12]):
        mask, counted = network.predict(example.image), example.label != IGNORE
        for k in range(len(network.classes)):
            right = (mask == k) & (example.label == k)
            assert right.sum() == stored["intersection"][number, k]
            assert ((mask == k) & counted).sum() == stored["prediction"][number, k]
