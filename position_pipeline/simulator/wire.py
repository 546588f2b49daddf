"""Bytes on the socket: frames, fields and the greeting of the TWS API.

Here: how a value becomes a field and how fields become a frame, and back. Not here: what a message means
(`messages.py`) or who gets it (`server.py`).
"""

import struct
from asyncio import StreamReader
from decimal import Decimal

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
PIECE = 64 * 1024
LONGEST_REQUEST = 1 << 20

_LENGTH = struct.Struct(">I")


class WireError(Exception):
    """The client sent bytes that are not the TWS protocol."""


def decimal_text(value: Decimal) -> str:
    """Plain decimal text: no exponent, no trailing zeros, no thousands separators, no negative zero."""
    shown = format(value, "f")
    if "." in shown:
        shown = shown.rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown


def text(value: object) -> str:
    """The text of one field. None is the empty field, which the protocol reads as unset, zero or empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Decimal):
        return decimal_text(value)
    return str(value)


def body(*fields: object) -> bytes:
    """Fields, each followed by NUL, also the last one."""
    return "".join(text(field) + "\0" for field in fields).encode()


def framed(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def frame(*fields: object) -> bytes:
    return framed(body(*fields))


def fields_of(framed_bytes: bytes) -> list[str]:
    """The fields of one frame as it was built by `frame`."""
    return framed_bytes[4:].decode().split("\0")[:-1]


def with_length(framed_bytes: bytes, length: int) -> bytes:
    """The same frame with a wrong length in front."""
    return _LENGTH.pack(length) + framed_bytes[4:]


def ascii_text(value: str, version: int) -> str:
    r"""From server version 153 on, free text is ASCII with \uXXXX escapes."""
    if version < 153 or value.isascii():
        return value
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in value)


async def read_frame(reader: StreamReader) -> list[str]:
    """The fields of the client's next frame. Raises IncompleteReadError when the client has gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    if length > LONGEST_REQUEST:
        raise WireError(f"a request of {length} bytes")
    content = await reader.readexactly(length)
    return content.decode(errors="backslashreplace").split("\0")[:-1]


async def read_greeting(reader: StreamReader) -> tuple[int, int]:
    r"""`API\0`, then one length-prefixed text `v157..178[ options]`: the versions that the client speaks."""
    if await reader.readexactly(4) != b"API\0":
        raise WireError("no API greeting")
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    if length > 1024:
        raise WireError(f"a greeting of {length} bytes")
    offered = (await reader.readexactly(length)).decode(errors="replace").split(" ")[0]
    lowest, _, highest = offered.removeprefix("v").partition("..")
    try:
        return int(lowest), int(highest or lowest)
    except ValueError:
        raise WireError(f"not a version range: {offered!r}") from None
