"""`postern proxy` with everything but the audit, to show what rows cost. Postern itself has no such switch."""

from proxy.audit.limits import Counters
from proxy.audit.record import Intent, Row
from proxy.executor import Executor
from proxy.runtime import Runtime
from proxy.server import run


class Forgetful:
    """An audit sink that keeps nothing."""

    healthy = True

    def __init__(self) -> None:
        self.counters = Counters()

    async def write_intent(self, intent: Intent) -> None:
        """Forget it."""

    async def write_row(self, row: Row) -> None:
        """Forget it."""


class UnauditedRuntime(Runtime):
    """The ordinary runtime, forgetful."""

    def make_executor(self) -> Executor:
        return Executor(Forgetful(), self.roads, self.sessions, self.fleet.audit)


if __name__ == "__main__":
    run(None, UnauditedRuntime)
