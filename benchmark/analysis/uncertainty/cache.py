"""Keeps an assessment on disk under a key of everything that it depends on."""

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.analysis.costs import compared_costs
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.core.files import write_atomic

_COLUMNS = (*GROUP, "benchmark", "method", "seed", "status", "provenance.started", MIOU)

Tables = dict[str, pd.DataFrame]


def key(runs: pd.DataFrame, root: Path, replicates: int) -> str:
    """Hash of the records, of path, size and time of their images.npz, and of the code.

    Args:
        runs: one row a record.
        root: the results folder.
        replicates: B.
    """
    protocol = sorted(name for name in runs.columns if name.startswith("protocol."))
    used = runs.reindex(columns=[*_COLUMNS, *compared_costs(), "folder", *protocol])
    records = pd.util.hash_pandas_object(used.astype(str), index=False).to_numpy()
    digest = hashlib.sha256(f"{_code()} {replicates} {list(used.columns)}\n".encode())
    digest.update(records.tobytes())
    # As texts: there are thousands, and objects of paths take longer than to look at the files.
    for folder in used["folder"].dropna():
        digest.update(_stamp(os.path.join(root, folder, "images.npz")).encode())
    return digest.hexdigest()


def load(path: Path, wanted: str) -> tuple[Tables, list[str]] | None:
    """The tables and notes stored under a key; None if there are none, or the file is torn."""
    try:
        content = json.loads(path.read_bytes())
        if content["key"] != wanted:
            return None
        return {name: _table(one) for name, one in content["tables"].items()}, content["notes"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def save(path: Path, own: str, tables: Mapping[str, pd.DataFrame], notes: list[str]) -> None:
    """Writes tables and notes; numbers come back bit for bit.

    Raises:
        OSError: the file cannot be written.
    """
    stored = {name: _columns(table) for name, table in tables.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"key": own, "tables": stored, "notes": notes})
    write_atomic(path, content.encode())


@cache
def _code() -> str:
    """Hash of the analysis, any line of which may change a number or a note."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _stamp(path: str) -> str:
    try:
        stat = os.stat(path)
    except OSError:
        return f"{path} -\n"
    return f"{path} {stat.st_size} {stat.st_mtime_ns}\n"


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    return {
        str(name): {
            "dtype": str(column.dtype),
            "values": [None if value is pd.NA else value for value in column.astype(object)],
        }
        for name, column in table.items()
    }


def _table(columns: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: pd.Series(one["values"], dtype=one["dtype"]) for name, one in columns.items()}
    )
