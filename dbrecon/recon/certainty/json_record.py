"""Records as JSON: the same text for the same values, with its own digest at the end, so that an edited one is known."""

import hashlib
import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any, ClassVar, Self

import numpy as np

from dbrecon.errors import InputError, Subject


class JsonRecord:
    """What the records of a tract share: a dataclass of plain values, arrays, arrays by name, and other dataclasses."""

    FORMAT: ClassVar[int]
    WHAT: ClassVar[str]
    """What it tells of a tract, for errors."""
    ABOUT: ClassVar[Subject]

    def text(self) -> bytes:
        """Return the record as JSON."""
        plain = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]
        body = json.dumps(plain | {"format": self.FORMAT}, sort_keys=True, separators=(",", ":")).encode()[:-1]
        return body + _end(body)

    @classmethod
    def parse(cls, text: bytes, source: str) -> Self:
        """Return the record of a text. Raises InputError, naming ``source``, if it is none, or is not as it was written."""
        try:
            plain: dict[str, Any] = json.loads(text)
            if plain["format"] != cls.FORMAT:
                raise InputError(f"{source}: is of format {plain['format']}, which this version does not read", about=cls.ABOUT)
            body = text[: -len(_end(b""))]
            if text != body + _end(body):
                raise InputError(f"{source}: is not what step 6 wrote: it was changed", about=cls.ABOUT)
            return cls.of_plain(plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{source}: is no whole record of a tract's {cls.WHAT}", about=cls.ABOUT) from error

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> Self:
        """Return the record of parsed JSON. Raises KeyError, TypeError or ValueError for what it lacks, or has wrong."""
        raise NotImplementedError


def _end(body: bytes) -> bytes:
    """Return what follows the other entries of a record: their digest."""
    return b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
