"""The rows of the table, and how they are printed and stored."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.core.files import write_atomic
from benchmark.core.ratio import Ratio
from benchmark.results import provenance

HEADINGS = ("what", "here", "against", "there", "ratio", "rounds", "wanted", "")


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: that is compared.
        here: its size, with the unit.
        against: what it is compared with.
        there: the size of that.
        ratio: how many times as fast, or as large.
        wanted: the ratio that is wanted; None = none in particular.
        at_most: it is wanted at most, not at least.
        note: more that was found out.
    """

    what: str
    here: str
    against: str
    there: str
    ratio: Ratio
    wanted: float | None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the ratio is as wanted."""
        found = self.ratio.value
        if self.wanted is None:
            return True
        return found <= self.wanted if self.at_most else found >= self.wanted

    @property
    def texts(self) -> tuple[str, ...]:
        """By `HEADINGS`."""
        ratio = self.ratio
        rounds = "" if ratio.low == ratio.high else f"{ratio.low:.2f} to {ratio.high:.2f}"
        limit = "at most" if self.at_most else "at least"
        wanted = "" if self.wanted is None else f"{limit} {self.wanted:g}"
        end = ", ".join(text for text in ("" if self.met else "missed", self.note) if text)
        return (
            self.what,
            self.here,
            self.against,
            self.there,
            f"{ratio.value:.2f}",
            rounds,
            wanted,
            end,
        )


def write(rows: Sequence[Row], about: Sequence[str], out: Path) -> list[Path]:
    """Writes `README.md` and `speed.json` to a folder.

    Args:
        rows: of the table.
        about: what was measured, where and how, a sentence each.
        out: the folder; made where it does not exist.

    Returns:
        The files.

    Raises:
        OSError: they cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    commit, dirty = provenance.git_state()
    packages = provenance.package_versions()
    state = f"Commit {commit or 'unknown'}{', with uncommitted changes' if dirty else ''}."
    lines = ["# Speed", "", *about, state, ""]
    lines += [_line(HEADINGS), _line(["---"] * len(HEADINGS))]
    lines += [_line(row.texts) for row in rows]
    lines += ["", ", ".join(f"{name} {version}" for name, version in packages.items())]
    stored = {
        "about": list(about),
        "commit": commit,
        "dirty": dirty,
        "packages": packages,
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }
    texts = {"README.md": "\n".join(lines), "speed.json": json.dumps(stored, indent=1)}
    for name, text in texts.items():
        write_atomic(out / name, f"{text}\n".encode())
    return [out / name for name in texts]


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
