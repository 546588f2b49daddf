"""Every way in which a connection to TWS or IB Gateway fails, in words: what happened, and what to do about it.

Belongs here: sentences. Does not belong here: noticing the failure (ibkr_session.py), a single account that is not proven (ibkr_proof.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from position_pipeline.brokers.ibkr_wire import NotTws, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from position_pipeline.brokers.ibkr_answer import Notice

PORTS = "4001 Gateway live, 4002 Gateway paper, 7496 TWS live, 7497 TWS paper"
API = "Configure > API > Settings: Enable ActiveX and Socket Clients"

LINK = {
    1100: "has lost its link to IBKR",
    1101: "has just got its link to IBKR back, with data lost",
    1102: "has just got its link to IBKR back",
    1300: "is moving to another port",
    2110: "has lost its link to IBKR",
}
"""Notices after which nothing that was listed can be relied on: the gateway lists what it knew before."""

CLIENT_ID_TAKEN = 326
REFUSED = 321


class Trouble(Exception):
    """The connection gave nothing that could be used. The text says what happened, `remedy` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class ClientIdTaken(Trouble):
    """Another program holds the client id."""


class IdsTaken(Trouble):
    """Other programs hold all client ids that were tried."""


class Unanswered(Trouble):
    """A request has no answer, or none that ended, and the time is up."""


def told(notice: Notice) -> str:
    """A notice of the gateway, to be quoted."""
    return f"{notice.code} {notice.text}"


def unknown_host(host: str, error: Exception) -> Trouble:
    return Trouble(f"the host name {clean(host)!r} is not known ({clean(str(error))})", "Correct the host name.")


def unreachable(error: Exception | None) -> Trouble:
    if isinstance(error, ConnectionRefusedError):
        remedy = f"Start TWS or IB Gateway, log in, enable its API ({API}) and check the port: {PORTS}."
        return Trouble("nothing listens there (connection refused)", remedy)
    return Trouble(f"it cannot be reached: {clean(str(error))}", "Check the host, the port and the network between.")


def unanswered_connection(seconds: float) -> Trouble:
    trouble = f"no answer to the attempt to connect within {seconds:g} s"
    return Trouble(trouble, "Check the host name, the network and the firewall between.")


def unanswered_handshake(seconds: float, notices: Sequence[Notice]) -> Trouble:
    remedy = (
        f"Look at the screen of TWS or Gateway: it may wait for a login, or ask whether to accept this connection ({API}, Trusted IPs)."
    )
    trouble = f"the connection was accepted, but the handshake was not answered within {seconds:g} s"
    return Trouble(trouble + _complaint(notices), remedy)


def unanswered(phase: str, seconds: float, rows: int, notices: Sequence[Notice]) -> Unanswered:
    came = f" ({rows} rows had come)" if rows else ""
    trouble = f"no complete answer within {seconds:g} s: {phase} was outstanding{came}"
    remedy = "Nothing was changed. Restart TWS or Gateway if it does not answer the next time either."
    return Unanswered(trouble + _complaint(notices), remedy)


def refused(phase: str, refusal: str) -> Trouble:
    return Trouble(f"{phase} was refused ({refusal})", "Look at the API settings and the log of TWS or Gateway.")


def link_lost(notice: Notice) -> Trouble:
    trouble = f"the gateway {LINK[notice.code]} ({told(notice)}), so nothing that it lists can be relied on"
    return Trouble(trouble, "Nothing was changed; wait until the link stands and sync again.")


def dropped(reason: str, phase: str) -> Trouble:
    remedy = "Nothing was changed. If this is not the nightly restart, look at TWS or Gateway, then sync again."
    return Trouble(f"the connection was dropped{_because(reason)} while {phase} was outstanding", remedy)


def hung_up(reason: str) -> Trouble:
    remedy = "It is connected to again by itself. If this is not the nightly restart, look at TWS or Gateway."
    return Trouble(f"the connection was dropped{_because(reason)}", remedy)


def silent(seconds: float) -> Trouble:
    trouble = f"nothing came for {seconds:.0f} s, not even the time that was asked for"
    return Trouble(trouble, "It is connected to again by itself. If it stays, restart TWS or Gateway and look at the network between.")


def closed_early(reason: str) -> Trouble:
    trouble = f"the connection was accepted and then closed{_because(reason)} before the API was ready"
    remedy = "Look whether TWS or Gateway is logged in, accepts this computer (Trusted IPs) and does not use this client id already."
    return Trouble(trouble, remedy)


def too_old(version: int, oldest: int) -> Trouble:
    trouble = f"TWS or Gateway is too old: it speaks protocol version {version}, and {oldest} is the oldest that is understood"
    return Trouble(trouble, "Update TWS or IB Gateway.")


def garbage(error: Exception, phase: str, *, greeted: bool) -> Trouble:
    """Bytes that are not the protocol: from the first one on, or after a greeting that was."""
    what = clean(str(error)) if isinstance(error, NotTws) else f"{type(error).__name__}: {clean(str(error))}"
    if not greeted:
        remedy = f"Another program may be listening there; the usual ports are {PORTS}."
        return Trouble(f"what answers there does not speak the TWS protocol: {what}", remedy)
    remedy = "Nothing was changed. Sync again; if it stays, restart TWS or Gateway."
    return Trouble(f"garbage on the wire while {phase} was outstanding: {what}", remedy)


def all_ids_taken(taken: Sequence[int]) -> IdsTaken:
    ids = f"client id {taken[0]} is" if len(taken) == 1 else f"the client ids {taken[0]} to {taken[-1]} are all"
    remedy = "End the other program that uses it, or set another id (POSITION_SYNC_IBKR_CLIENT_ID)."
    return IdsTaken(f"{ids} in use (error 326)", remedy)


def too_many_accounts(count: int, most: int) -> Trouble:
    trouble = f"this login has {count} accounts; IBKR lists positions only for logins with up to {most}"
    return Trouble(trouble, "Log in as a user who sees fewer accounts; several connections can be configured side by side.")


def no_library() -> Trouble:
    return Trouble("neither ib_insync nor ib_async is installed", "Install ib_insync.")


def _because(reason: str) -> str:
    return f" ({clean(reason)})" if reason else ""


def _complaint(notices: Sequence[Notice]) -> str:
    """What the gateway complained about last: it often is the reason."""
    complaints = [each for each in notices if not each.is_warning]
    return f"; the gateway said: {told(complaints[-1])}" if complaints else ""
