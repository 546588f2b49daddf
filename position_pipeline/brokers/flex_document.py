"""A Flex file as rows with line numbers: what is XML and nothing more.

Belongs here: parsing, the shape of the document, and refusing what is no statement. Does not belong here: what a row means.

The file is read as a stream, entities and DTDs are never expanded, and rows of sections that nobody reads are only counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from position_pipeline.brokers.flex_words import ERRORS_TO_REPEAT, IGNORED_TAGS, ROW_TAGS, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from xml.sax.xmlreader import AttributesImpl, Locator

_CUT_OFF = re.compile(r"no element found|unclosed (token|CDATA section)|partial character")
_TEXT_LIMIT = 4000


class StatementError(Exception):
    """A file that is refused whole. The text says which file, where in it, what is wrong and what to do."""


def quoted(text: str, limit: int = 80) -> str:
    """A text from outside, fit for a message: one line, nothing but printable characters, not longer than `limit`."""
    clean = "".join(each if each.isprintable() else " " for each in text[: limit * 4]).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One element with attributes, as it stands in the file: `part` is the statement that holds it, None when it stands outside."""

    tag: str
    line: int
    values: Mapping[str, str]
    part: int | None


@dataclass(slots=True)
class RawPart:
    """One FlexStatement element: the account and period that it claims, and the sections that are there, even if empty."""

    line: int
    values: Mapping[str, str]
    sections: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Document:
    """A whole file. `notes` count what was passed over."""

    name: str
    parts: list[RawPart] = field(default_factory=list)
    rows: list[RawRow] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def refuse(self, line: int | None, message: str, *, column: int | None = None) -> StatementError:
        where = quoted(self.name) + (f", line {line}" if line else "") + ("" if column is None else f", column {column}")
        return StatementError(f"{where}: {message}")


def read_document(source: Path | bytes, name: str) -> Document:
    """Parse a file or its bytes. Raises StatementError for what is no Flex statement, OSError for a file that cannot be read."""
    if isinstance(source, bytes):
        return _parse(BytesIO(source), name)
    with source.open("rb") as file:
        return _parse(file, name)


def _parse(file: IO[bytes], name: str) -> Document:
    handler = _Handler(Document(name))
    parser = DefusedExpatParser(namespaceHandling=0, forbid_dtd=True)
    parser.setContentHandler(handler)
    try:
        parser.parse(file)
    except SAXParseException as error:
        raise _not_well_formed(error, handler) from None
    except DefusedXmlException:
        raise handler.document.refuse(
            handler.line,
            "declares a document type or entities, which no Flex statement does. It was not read; download the statement anew.",
        ) from None
    handler.finish()
    return handler.document


def _not_well_formed(error: SAXParseException, handler: _Handler) -> StatementError:
    document, line, column = handler.document, error.getLineNumber(), error.getColumnNumber()
    if _CUT_OFF.search(error.getMessage()):
        if not handler.started:
            return document.refuse(None, "is empty. Download the statement anew.")
        return document.refuse(
            line, f"is cut off inside {handler.place}. Nothing was taken from it; download the statement anew and import it whole."
        )
    return document.refuse(
        line,
        f"is not XML ({quoted(error.getMessage())}). Export the Flex query in XML format, not as text or CSV.",
        column=column,
    )


class _Handler(ContentHandler):
    """Collects rows while the parser walks; `place` is where it stands, for messages."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document
        self.stack: list[str] = []
        self.started = False
        self.part: int | None = None
        self.answer: dict[str, str] = {}
        self.locator: Locator | None = None

    def setDocumentLocator(self, locator: Locator) -> None:  # noqa: N802
        self.locator = locator

    @property
    def line(self) -> int:
        return (self.locator.getLineNumber() or 0) if self.locator else 0

    @property
    def place(self) -> str:
        return f"<{quoted(self.stack[-1])}>" if self.stack else "the document"

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802
        if not self.stack:
            self._root(name, dict(attrs.items()))
        elif name == "FlexStatement":
            self.part = len(self.document.parts)
            self.document.parts.append(RawPart(self.line, dict(attrs.items())))
        elif self.stack[0] == "FlexQueryResponse":
            self._inside(name, attrs)
        self.started = True
        self.stack.append(name)

    def _root(self, name: str, values: dict[str, str]) -> None:
        if name not in ("FlexQueryResponse", "FlexStatementResponse"):
            raise self.document.refuse(
                self.line, f"<{quoted(name)}> is not a Flex statement: its first element must be <FlexQueryResponse>. "
                "Export an Activity Flex query in XML format.",
            )  # fmt: skip
        if values.get("type") == "TCF":
            raise self.document.refuse(
                self.line, "is a Trade Confirmation Flex query, which has no positions and no P&L. Export an Activity Flex query."
            )

    def _inside(self, name: str, attrs: AttributesImpl) -> None:
        if name in ROW_TAGS and len(attrs):
            self.document.rows.append(RawRow(name, self.line, dict(attrs.items()), self.part))
        elif self.part is not None and self.stack[-1] == "FlexStatement":
            self.document.parts[self.part].sections.add(name)
            if name not in SECTIONS:
                self.document.notes[f"unknown section {quoted(name, 40)}"] += 1
        elif name in IGNORED_TAGS or (name == "AccountInformation"):
            return
        elif len(attrs) and len(self.stack) > 1 and self.stack[-1] not in ("FlexQueryResponse", "FlexStatements"):
            self.document.notes[f"row of section {quoted(self.stack[-1], 40)}, which is not used"] += 1

    def characters(self, content: str) -> None:
        if self.stack and self.stack[0] == "FlexStatementResponse" and len(self.stack) == 2:
            self.answer[self.stack[1]] = (self.answer.get(self.stack[1], "") + content)[:_TEXT_LIMIT]

    def endElement(self, name: str) -> None:  # noqa: N802
        if name == "FlexStatement":
            self.part = None
        if len(self.stack) == 1 and name == "FlexStatementResponse":
            raise _error_document(self.document, self.answer)
        self.stack.pop()

    def finish(self) -> None:
        if not self.document.parts:
            raise self.document.refuse(
                None, "holds no account (no <FlexStatement>). Select at least one account in the Flex query and run it again."
            )


def _error_document(document: Document, answer: Mapping[str, str]) -> StatementError:
    code, message = quoted(answer.get("ErrorCode", "")), quoted(answer.get("ErrorMessage", ""), 200)
    if not code and answer.get("ReferenceCode"):
        said, advice = "is the receipt of a request, not the statement", "Ask for the statement with its reference code."
    else:
        said = f"is an error message of the Flex service, not a statement: {code} {message}".rstrip()
        advice = (
            "Wait a few seconds and ask again."
            if code in ERRORS_TO_REPEAT
            else "Asking again does not help: check token, query and account in IBKR's Client Portal."
        )
    return document.refuse(None, f"{said}. {advice} Nothing was taken from it.")
