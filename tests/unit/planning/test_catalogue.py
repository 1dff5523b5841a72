"""Which of our methods a paper's table means."""

import pytest

from benchmark.planning.catalogue import published_labels


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["full", "lora", "nothing-of-ours"], ["full", "lora", ""]),
        (["vpt-deep", "vpt-shallow"], ["vpt", "vpt[depth=shallow]"]),
        (["adaptformer", "houlsby"], ["adapter", "adapter[form=houlsby]"]),
        (["adapter"], ["adapter"]),
        (["adapter", "adaptformer"], ["", "adapter"]),  # a form that the table does not tell
        (["none", "on", "all"], ["", "", ""]),  # values of fields of many methods
    ],
)
def test_names_of_papers_are_those_of_methods_and_of_forms(names: list[str], labels: list[str]):
    assert published_labels(names) == labels
