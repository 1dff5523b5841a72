"""Where a number comes from: code, packages, hardware, weights and data."""

import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("petseg-bench", "torch", "torchvision", "timm", "peft", "numpy", "pillow")


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this code runs from, and whether tracked files differ from it.

    Asked once a process: it describes the code that was loaded, not what the folder holds later.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        # An installed copy may lie in an environment inside somebody else's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno", "--", ":/"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def processor() -> str:
    """Name of the CPU and number of its logical cores, as far as the system tells."""
    import os

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        name = next(lines, f":{name}").partition(":")[2].strip()
    return f"{name}, {os.cpu_count()} cores"


def data_sha256(*splits: str) -> str:
    """Fingerprint of the data of a run from those of its splits.

    Returns:
        `<scheme>:<hash>`; only fingerprints of one scheme can be compared: `splits` of decoded
        pixels, `files` of names, sizes and times. (Older records have a hash without scheme.)
    """
    scheme = "files" if any(split.startswith("files:") for split in splits) else "splits"
    return f"{scheme}:{hashlib.sha256(chr(10).join(splits).encode()).hexdigest()}"
