"""What this machine is and has; torch is only asked where there may be a GPU."""

import contextlib
import ctypes
import shutil
import sys
from pathlib import Path

from benchmark import provenance
from benchmark.errors import UserError


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
    return provenance.processor()


def available_memory(device: str) -> int | None:
    """Bytes that can be taken on a device; None where the system does not tell."""
    if _is_gpu(device):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


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
