"""What can go wrong with the audit trail.

AuditError
├── AuditUnavailable     the row is not known to be durable: nothing may be forwarded or released
│   └── AuditConflict    this execution already has its row, written by another process
└── AuditStoreError      the database cannot hold the trail at all; says what to change
"""


class AuditError(Exception):
    """Base of this package's errors; its text is fit for a caller."""


class AuditUnavailable(AuditError):  # noqa: N818  a state that is answered with 503, not a fault
    """The entry is not known to be durable; try again after `retry_after_s`."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class AuditConflict(AuditUnavailable):
    """The execution was closed by another process; its answer must not be released."""


class AuditStoreError(AuditError):
    """The database is not set up for the trail."""
