"""Execution ids: version 7, and never twice."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from proxy.ids import execution_id

NOW = datetime(2026, 11, 29, tzinfo=UTC)
FORKING = """
import os
from datetime import UTC, datetime
from proxy.ids import execution_id
now = datetime.now(UTC)
execution_id(now)  # there are random bytes to inherit
child = os.fork()
if child:
    os.waitpid(child, 0)
for _ in range(50):
    print(execution_id(now), flush=True)
"""


def test_an_id_tells_its_time_and_version():
    made = execution_id(NOW)
    assert made.version == 7
    assert made.int >> 80 == int(NOW.timestamp() * 1000)


def test_no_two_threads_get_the_same_id():
    with ThreadPoolExecutor(8) as pool:
        found = [each for ids in pool.map(lambda _: [execution_id(NOW) for _ in range(5000)], range(8)) for each in ids]
    assert len(set(found)) == len(found) == 40_000


def test_a_child_makes_other_ids_than_its_parent():
    """In a process of its own: forking one that has threads is no good."""
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=30)
    found = done.stdout.split()
    assert len(set(found)) == len(found) == 100
