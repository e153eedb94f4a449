"""JSON as people write it by hand: comments and trailing commas are let pass. Bounded, and never an odd exception."""

import json
import re
from typing import cast

from registry.importers.found import ImportFileError
from registry.source import Data

MAX_BYTES = 1_048_576
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\r\n]*|/\*.*?\*/|,(?=(?:\s|//[^\r\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


def read_document(content: bytes) -> dict[str, Data]:
    """Return the object in a file; raises `ImportFileError`."""
    if len(content) > MAX_BYTES:
        raise ImportFileError(f"the file has more than {MAX_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportFileError("the file is not UTF-8") from None
    try:
        document = json.loads(text)
    except ValueError:
        document = _tolerant(text)
    except RecursionError:
        raise ImportFileError("the file is nested too deeply") from None
    if not isinstance(document, dict):
        raise ImportFileError("the file does not hold a JSON object")
    return cast("dict[str, Data]", document)


def _tolerant(text: str) -> object:
    try:
        return json.loads(_TOKEN.sub(lambda match: match[0] if match[0].startswith('"') else "", text))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ImportFileError(f"the file is not JSON: {error.msg.lower()} near {where}") from None
    except (ValueError, RecursionError):
        raise ImportFileError("the file is not JSON that can be read") from None
