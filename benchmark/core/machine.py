"""What this machine is and has; torch is only asked where there may be a GPU."""

import contextlib
import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path

from benchmark.core.errors import UserError

CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


def find_device(name: str) -> str:
    """The device that an option names, as torch spells it.

    Raises:
        UserError: there is no such device.
    """
    if name == "cpu" or (name == "auto" and not _gpu_driver()):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} is not available here; use --device cpu") from error
    return str(device)


def device_name(device: str) -> str:
    """The device as records name it."""
    if _is_gpu(device):
        import torch

        return torch.cuda.get_device_name(device)
    return processor()


def cores() -> int:
    """Cores that this process may use: of its affinity, and no more than its cgroup allows."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    shares = [quota / period for quota, period in _cpu_limits()]
    return max(1, min(count, *map(int, shares))) if shares else count


def load_average() -> float | None:
    """Processes that wanted a core, averaged over the last minute; None where it is not told."""
    with contextlib.suppress(OSError, AttributeError):
        return round(os.getloadavg()[0], 2)
    return None


def available_memory(device: str) -> int | None:
    """Bytes that can be taken on a device; None where the system does not say.

    On a CPU that is what the system has available, and no more than the cgroup allows.
    """
    if _is_gpu(device):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    found = _memory_limits()
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    return max(0, min(found)) if found else None


def _cpu_limits() -> list[tuple[int, int]]:
    """Quota and period, in microseconds, of the cgroups that this process is in."""
    found = []
    for folder in _cgroups("cpu"):
        with contextlib.suppress(OSError, ValueError):
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:
                found.append((int(quota), int(period)))
    return found


def _memory_limits() -> list[int]:
    """Bytes that are left in each cgroup with a limit; pages of files can be given back."""
    found = []
    for folder in _cgroups("memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with contextlib.suppress(OSError, ValueError):
                stat = (folder / "memory.stat").read_text().split()
                files = dict(zip(stat[::2], map(int, stat[1::2]), strict=True))["inactive_file"]
                taken = int((folder / used).read_text()) - files
                found.append(int((folder / limit).read_text()) - taken)
    return found


def _cgroups(controller: str) -> list[Path]:
    """Folders of the cgroups of this process, the innermost first (cgroups(7))."""
    folders = []
    with contextlib.suppress(OSError):
        for line in CGROUP.read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names and controller not in names.split(","):
                continue
            root = CGROUPS / names if names else CGROUPS
            inner = root / path.lstrip("/")
            while inner != root and root in inner.parents:
                folders.append(inner)
                inner = inner.parent
            folders.append(root)
    return folders


def free_disk(folder: Path) -> int:
    """Free bytes where a folder is, or would be made."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _is_gpu(device: str) -> bool:
    return device.startswith("cuda")


def _gpu_driver() -> bool:
    """Whether there is a driver of GPUs that torch may find usable; true where that is not known.

    torch takes seconds to import, and brings everything but the driver along.
    """
    if sys.platform != "linux":
        return True
    if any(Path(node).exists() for node in ("/dev/kfd", "/dev/dxg")):  # of AMD; of Windows
        return True
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        return True
    return False


def processor() -> str:
    """Name of the CPU and number of its logical cores, as far as the system reports them."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        name = next(lines, f":{name}").partition(":")[2].strip()
    return f"{name}, {os.cpu_count()} cores"
