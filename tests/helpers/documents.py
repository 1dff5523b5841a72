"""What the documents of this repository hold: commands, names, and a table made from the methods.

`python -m tests.helpers.documents` writes the table of methods into methods/README.md again, and
what published runs took into benchmark/planning/published_costs.yaml.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import median

from benchmark.planning.published_costs import FILE as published_costs_file
from benchmark.results.index import read_index
from methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmark/README.md", "methods/README.md"),
    "benchmark/execution/README.md",
    *("results/README.md", "reports/README.md", "tests/README.md"),
    *("results/published/rates/README.md", "benchmark/serving/README.md"),
)
"""Written by hand. The published reports are made from records."""

BEGIN = "<!-- methods: made by `python -m tests.helpers.documents`; a test compares -->\n"
END = "<!-- end of methods -->"


def read(document):
    """The text of a document."""
    return (ROOT / document).read_text("utf-8")


def fences(document, language):
    """The code blocks of one language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(document), re.DOTALL | re.MULTILINE)


def commands(document):
    """The commands in a document's blocks of shell, one line each, without comments."""
    lines = "".join(fences(document, "bash")).replace("\\\n", " ").splitlines()
    found = [re.sub(r"\s+#.*", "", " ".join(line.split())) for line in lines]
    return [line for line in found if line]


def prose(document):
    """A document without its code blocks."""
    return re.sub(r"^```.*?^```", "", read(document), flags=re.DOTALL | re.MULTILINE)


def links(document):
    """Targets of links and images that lead to a file here, without the part after #."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    return {target.partition("#")[0] for target in found if "://" not in target} - {""}


def methods_table():
    """The methods with a name of their own, from their classes, in Markdown."""
    lines = [
        "| Name | What it does | Backbones | Stages intact | Merges | Identity | Reference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cls in sorted(METHODS.loaded().items()):
        if cls.__module__.partition(".")[0] != "methods" or ":" in name:
            continue  # a test's own, or a library's
        what = " ".join((cls.__doc__ or "").partition("\n\n")[0].split()).rstrip(".:")
        kinds = "all" if len(cls.supports) == 3 else ", ".join(sorted(cls.supports))
        traits = (cls.keeps_structure, cls.mergeable, cls.identity_at_init)
        ticks = ["yes" if trait else "-" for trait in traits]
        cells = [f"`{name}`", what, kinds, *ticks, cls.reference or "-"]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def written_table():
    """The table as it is in methods/README.md."""
    return read("methods/README.md").partition(BEGIN)[2].partition(END)[0]


def published_costs():
    """What `benchmark/planning/published_costs.yaml` should be: medians over published records."""
    found = defaultdict(list)
    (device,) = {entry.device for entry in _published()}
    for entry in _published():
        found[entry.backbone, entry.method, entry.benchmark, entry.crop, entry.batch_size].append(
            (entry.images_per_second, entry.other_seconds, entry.disk_bytes)
        )
    lines = [
        "# What published runs took (medians), made by `python -m tests.helpers.documents`.",
        f"device: {device}",
        "fields: [backbone, method, benchmark, crop, batch_size, images_per_second, other_seconds, "
        "disk_bytes]",
        "runs:",
    ]
    for kind, numbers in sorted(found.items()):
        speed, others, size = (median(values) for values in zip(*numbers, strict=True))
        lines.append(f"- {json.dumps([*kind, round(speed, 1), round(others, 1), round(size)])}")
    return "\n".join(lines) + "\n"


def _published():
    held = read_index(ROOT / "results/published").entries
    runs = [held[place] for place in sorted(held)]
    return [run for run in runs if run.status == "done" and run.images_per_second]


if __name__ == "__main__":
    published_costs_file.write_text(published_costs(), "utf-8")
    path = ROOT / "methods/README.md"
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    path.write_text(before + BEGIN + methods_table() + END + rest.partition(END)[2], "utf-8")
