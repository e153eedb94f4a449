"""What remains to be done when supervisord is gone: nobody else would end what it had started."""

import logging
import signal

from supervisor_plugin.processes import Identity, marked_processes, signal_ours, wait_until_gone

KILL_S = 5.0

_log = logging.getLogger("postern.guardian")


def end_fleet(instance: str, grace_s: float) -> list[Identity]:
    """End every process of this fleet, TERM first; return what is left. Blocking: there is nothing else to do."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S)):
        processes = [process.identity for process in marked_processes(instance)]
        for identity in processes:
            signal_ours(identity, instance, number)
        if processes:
            _log.warning("%s sent to %s", number.name, ", ".join(str(identity.pid) for identity in processes))
        wait_until_gone(processes, wait_s)
    return [process.identity for process in marked_processes(instance)]
