"""A client that knows nothing but frames: for exact fields, and for servers that misbehave."""

import socket
import struct
from typing import Self


class RawClient:
    def __init__(self, port: int, *, version: int = 178, client_id: int = 50, start: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._file = self.socket.makefile("rb")
        offered = f"v157..{version}".encode()
        self.socket.sendall(b"API\0" + struct.pack(">I", len(offered)) + offered)
        if start:
            self.greeting = self.receive()
            self.send(71, 2, client_id, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *fields: object) -> None:
        content = "".join(f"{field}\0" for field in fields).encode()
        self.socket.sendall(struct.pack(">I", len(content)) + content)

    def receive(self) -> list[str]:
        """The fields of the next frame; [] when the server has closed the connection."""
        prefix = self._file.read(4)
        if len(prefix) < 4:
            return []
        content = self._file.read(struct.unpack(">I", prefix)[0])
        assert content.endswith(b"\0"), "every field ends with NUL, also the last"
        return content.decode().split("\0")[:-1]

    def until(self, message_id: int) -> list[list[str]]:
        """All frames up to and including one with this message id, or up to the end of the connection."""
        frames: list[list[str]] = []
        while True:
            fields = self.receive()
            if not fields:
                return frames
            frames.append(fields)
            if fields[0] == str(message_id):
                return frames

    def ready(self) -> "RawClient":
        """Past the three notices that end the start."""
        for _ in range(3):
            assert self.until(4)[-1][0] == "4"
        return self

    def ask(self, *request: object, end: int) -> list[list[str]]:
        self.send(*request)
        return self.until(end)
