"""JSON that every reader accepts: what is not finite is written as `{"float": "nan"}`, never as a bare NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_FLOAT = "float"
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode_json(document: object, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON with keys in order; NaN and the infinities as `{"float": "nan"}`, which `decode_json` reads back.

    TypeError where a value is no JSON (a tensor, a path): the caller's mistake, so it is not hidden behind str().
    """
    text = json.dumps(_tagged(document), indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode_json(content: bytes | str) -> Any:
    """Read what `encode_json` wrote. ValueError where it is empty, cut short, no UTF-8, or holds a bare NaN."""
    return json.loads(content, object_hook=_untagged, parse_constant=_refused)


def _tagged(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(float(value))}
    if isinstance(value, Mapping):
        return {name: _tagged(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_tagged(item) for item in value]
    return value


def _untagged(document: dict[str, Any]) -> Any:
    if len(document) == 1 and isinstance(document.get(_FLOAT), str):
        return _NON_FINITE.get(document[_FLOAT], document)
    return document


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
