"""Cores and memory are those that a process may use, not those that the host has."""

import os

import pytest

from benchmark.core import machine


@pytest.fixture
def cgroup(monkeypatch, tmp_path):
    """Puts this process into a control group with these files."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "self")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def put(line, files):
        (tmp_path / "self").write_text(line)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return put


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1),
        ("0::/a\n", {"a/cpu.max": "1600000 100000\n"}, 8),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, 8),
        (
            "3:cpu,cpuacct:/x\n1:memory:/\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            "3:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
    ],
)
def test_cores_are_those_of_affinity_and_control_groups(cgroup, line, files, expected):
    cgroup(line, files)
    assert machine.cores() == expected


def test_memory_is_what_is_left_in_the_tightest_group(cgroup):
    free = machine.available_memory("cpu")
    cgroup(
        "0::/a\n",
        {
            "a/memory.max": "1000000\n",
            "a/memory.current": "600000\n",
            "a/memory.stat": "anon 1\ninactive_file 100000\n",
        },
    )
    assert machine.available_memory("cpu") == 500_000
    cgroup("0::/a\n", {"a/memory.max": "max\n"})
    assert machine.available_memory("cpu") == pytest.approx(free, rel=0.5)
    cgroup(
        "4:memory:/x\n",
        {
            "memory/x/memory.limit_in_bytes": "7000000\n",
            "memory/x/memory.usage_in_bytes": "8000000\n",
            "memory/x/memory.stat": "inactive_file 0\n",
        },
    )
    assert machine.available_memory("cpu") == 0
