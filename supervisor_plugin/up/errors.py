"""Why `postern up` gives up. Every text says what, by whom, and what to do; whatever had been started is stopped.

UpError                3   cannot start
├── RegistryError      1   the gate: findings in the registry
├── AlreadyUpError     3   another `postern up` holds this state directory
├── PortsTakenError    3   somebody else listens where a server or the proxy should
├── FleetError         3   supervisord or a member of the fleet did not come up, or ended
└── DatabaseError      3   PostgreSQL cannot be started, reached or migrated

DetachedError          what the detached one ended with
"""


class UpError(Exception):
    """Base; `exit_code` is what the command ends with."""

    exit_code: int = 3


class RegistryError(UpError):
    exit_code = 1


class AlreadyUpError(UpError):
    pass


class PortsTakenError(UpError):
    pass


class FleetError(UpError):
    pass


class DatabaseError(UpError):
    pass


class DetachedError(UpError):
    """The one behind us ended before it was up, with this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
