"""What a tool's result may be: eleven variants, each with a schema and rules between its members (SPEC C3)."""

from registry.artifacts.check import META_KEY, check_result
from registry.artifacts.schemas import KINDS, schema_of

__all__ = ["KINDS", "META_KEY", "check_result", "schema_of"]
