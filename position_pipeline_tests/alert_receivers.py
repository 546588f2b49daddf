"""Where alerts arrive in tests: a real HTTP server and a real mail server on this machine, which can misbehave.

Belongs here: taking messages and keeping them. Does not belong here: what is expected of them.
"""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "sesame-open-wide-4711"


class Webhook:
    """Keeps what is posted to it. `answers` are the next status codes, 200 when they are used up; `hang` and `drip` never come to an end."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.answers: list[int | str] = []
        self.requests = 0
        self.over = threading.Event()
        self.url = ""

    def titles(self) -> list[str]:
        return [message["title"] for message in self.messages]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook whose address (`url`) holds a token, as those of real services do."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.requests += 1
            answer = kept.answers.pop(0) if kept.answers else 200
            if answer == "hang":
                kept.over.wait(60)
                return
            if answer == "drip":
                self.send_response(200)
                self.end_headers()
                while not kept.over.wait(0.3):
                    self.wfile.write(b" ")
                return
            if answer == 200:
                kept.messages.append(json.loads(body))
            self.send_response(int(answer))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # whoever hangs is killed by its other side
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    kept.url = f"json://127.0.0.1:{server.server_port}/hooks/{TOKEN}"
    try:
        yield kept
    finally:
        kept.over.set()
        server.shutdown()
        server.server_close()


class Mailbox:
    """The mails that a mail server has taken."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.url = ""


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A mail server that takes every password."""
    box = Mailbox()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 mail.test ESMTP")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                if verb == "QUIT":
                    return self.say("221 bye")
                self.answer(verb)
            return None

        def answer(self, verb: str) -> None:
            if verb == "EHLO":
                return self.say("250-mail.test\r\n250 AUTH PLAIN LOGIN")
            if verb == "AUTH":
                return self.say("235 welcome")
            if verb != "DATA":
                return self.say("250 ok")
            self.say("354 go on")
            lines = []
            while (line := self.rfile.readline().decode()) != ".\r\n":
                lines.append(line)
            box.mails.append(message_from_string("".join(lines), policy=policy.default))
            return self.say("250 taken")

        def say(self, words: str) -> None:
            self.wfile.write(f"{words}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    port = server.server_address[1]
    box.url = f"mailto://robot:{TOKEN}@127.0.0.1:{port}/?mode=insecure&from=robot@example.com&to=desk@example.com&smtp=127.0.0.1"
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
