"""The canonical JSON of an inputs value, and its hash: equal settings give equal bytes, however they were written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> Any:
    """Plain JSON of an inputs value. Fields that hold their declared `neutral` value are left out."""
    if isinstance(value, BaseModel):
        return {
            name: canonical(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if not _is_neutral(field.json_schema_extra, getattr(value, name))
        }
    if isinstance(value, Mapping):
        return {str(name): canonical(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(member) for member in value]
    return value


def _is_neutral(extra: Any, value: Any) -> bool:
    return isinstance(extra, dict) and "neutral" in extra and extra["neutral"] == value


def digest(document: Any) -> str:
    """sha256 (hex) of a JSON document with sorted keys; ValueError where a number is not finite."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
