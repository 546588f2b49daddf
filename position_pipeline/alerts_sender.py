"""The process that sends to one channel, and ends: apprise, which knows Slack, mail, Telegram, webhooks and a hundred more.

Belongs here: apprise, and what of its words goes back. Does not belong here: the database, retries, secrets in any output. Nothing of the
product is imported, so that it starts in a third of a second.

It reads {"url", "seconds", "messages"} from stdin and writes a line [id, error] for each message, an empty error where it was taken; the
first line has the id `url` and says whether the URL means anything. After `seconds` the kernel ends it, also when whoever started it
is gone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any

KINDS = {"good": "success", "notice": "info", "warning": "warning", "grave": "failure"}
"""Our severities in apprise's words."""


class Words(logging.Handler):
    """Keeps what apprise says of a failure. Its debug lines, which hold URLs and what is sent, are not made at all."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def taken(self) -> str:
        said, self.said = " ".join(self.said), []
        return said


def main() -> None:
    work = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(work["seconds"]))
    words = Words()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [words], False
    logger.setLevel(logging.WARNING)
    service = _service(work["url"])
    _answer("url", "" if service else "no service of apprise is addressed like this")
    words.taken()
    for message in work["messages"] if service else ():
        _answer(message["id"], _sent(service, message, words))
    # Threads that the library has left behind must not hold the process.
    os._exit(0)


def _service(url: str) -> Any:
    import apprise

    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="position_pipeline", async_mode=False))
    return service if service.add(url) else None


def _sent(service: Any, message: dict[str, str], words: Words) -> str:
    """Empty, or why the channel did not take it."""
    try:
        taken = service.notify(body=message["body"], title=message["title"], notify_type=KINDS[message["severity"]], body_format="text")
    except Exception as error:  # noqa: BLE001  a hundred plugins, and a text is wanted whatever they do
        return type(error).__name__
    said = words.taken()
    return "" if taken else said or "the channel did not take it and gave no reason"


def _answer(id_: str, error: str) -> None:
    sys.stdout.write(json.dumps([id_, error]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
