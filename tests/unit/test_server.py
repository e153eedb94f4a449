"""What the proxy takes of its machine before it listens."""

import subprocess
import sys

import pytest

ASK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
from proxy.server import take_descriptors
print(take_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("soft", "hard", "taken"), [(256, 1000, 1000), (1000, 1000, 1000)])
def test_limit_of_open_files_is_raised_as_far_as_it_goes(soft: int, hard: int, taken: int) -> None:
    """A shell's 1024 would be used up by as many clients that say nothing."""
    done = subprocess.run([sys.executable, "-c", ASK, str(soft), str(hard)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(taken), str(taken)]
