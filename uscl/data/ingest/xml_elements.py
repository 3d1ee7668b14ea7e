"""XML from people one does not know: no document type, so no entities, so no bombs; one element at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from uscl.data.ingest.annotation_text import check_size
from uscl.errors import DataError

_MAX_DEPTH = 50
_CHUNK_BYTES = 1 << 16


class _Refused(ValueError):
    """The document holds what no annotation file needs."""


class _Elements:
    """Collects the children of the root; `done` holds those finished since it was last emptied."""

    def __init__(self) -> None:
        self.root = ""
        self.done: list[ElementTree.Element] = []
        self._depth = 0
        self._builder: ElementTree.TreeBuilder | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Refused(f"is nested more than {_MAX_DEPTH} deep")
        if self._depth == 1:
            self.root = tag
        elif self._depth == 2:
            self._builder = ElementTree.TreeBuilder()
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if self._builder is not None:
            self._builder.end(tag)
            if self._depth == 1:
                self.done.append(self._builder.close())
                self._builder = None

    def text(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)


def child_elements(path: Path, *, root: str) -> Iterator[ElementTree.Element]:
    """The children of the document's root, one by one as they are read; their memory is the caller's to drop.

    DataError, with the line, where the file is not well-formed, is of an unknown encoding, has another root, or
    declares a document type: entities in it could blow up the memory or read other files.
    """
    elements = _Elements()
    parser = _parser(elements)
    check_size(path)
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
                yield from _finished(path, elements, root)
            parser.Parse(b"", True)
        yield from _finished(path, elements, root)
    except expat.ExpatError as error:
        raise DataError(f"{path}:{error.lineno}: is broken XML: {expat.ErrorString(error.code)}") from None
    except (_Refused, ValueError, LookupError) as error:
        reason = str(error) if isinstance(error, _Refused) else "is of an encoding that is not read; save it as UTF-8"
        raise DataError(f"{path}:{parser.CurrentLineNumber}: {reason}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _parser(elements: _Elements) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = elements.start
    parser.EndElementHandler = elements.end
    parser.CharacterDataHandler = elements.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: object) -> None:
    raise _Refused("declares a document type, which no annotation file needs and an attack does; take the line out")


def _finished(path: Path, elements: _Elements, root: str) -> Iterator[ElementTree.Element]:
    if elements.root not in ("", root):
        raise DataError(f"{path}: is no such XML; expected the root element <{root}>")
    done, elements.done = elements.done, []
    yield from done
