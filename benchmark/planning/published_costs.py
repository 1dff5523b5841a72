"""What published runs took, for a rough estimate where a results folder tells nothing.

`published_costs.yaml` holds medians over the published records. `python -m tests.helpers.documents`
makes it again, and a test compares.
"""

from pathlib import Path

import yaml

from benchmark.results.index import Entry

FILE = Path(__file__).with_suffix(".yaml")


def read() -> tuple[str, list[Entry]]:
    """The device that the published runs were made on, and one run of each kind."""
    content = yaml.load(FILE.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    device, fields = content["device"], content["fields"]
    shared = {"run_id": "", "status": "done", "device": device}
    return device, [
        Entry(**shared, **dict(zip(fields, row, strict=True))) for row in content["runs"]
    ]
