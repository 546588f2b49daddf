"""The stream of TWS or IB Gateway, on the wire: what is told, once and exactly, what is missed and known to be, and who has which client id.

Belongs here: one connection. Does not belong here: connecting again, and the book (test_listener.py).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from decimal import Decimal

import pytest

from position_pipeline.brokers import BrokerUnavailable, ibkr
from position_pipeline.brokers.ibkr import IbkrBroker
from position_pipeline.brokers.ibkr_heard import GRACE, Heard
from position_pipeline.brokers.ibkr_pacing import Pace
from position_pipeline.simulator import Simulator, many_positions
from position_pipeline_tests.brokers.test_ibkr import MORNING, SMALL, eventually

RARELY = Pace(heartbeat=0.2, deadline=0.3, poll=600, all=600)
D = Decimal


class Ears:
    """Everything that a stream told so far."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.fills, self.held, self.lost, self.refused, self.whole = [], {}, [], [], False
        self.ended = ""

    def hear(self, seconds: float = 0.05) -> bool:
        try:
            news = self.stream.take(seconds)
        except BrokerUnavailable as ended:
            self.ended = str(ended)
            return False
        if news is not None:
            self.fills += news.fills
            self.held.update(news.held)
            self.lost += [news.lost] if news.lost else []
            self.refused += news.refused
            self.whole = news.whole
        return news is not None

    def until(self, found, patience: float = 5.0):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if result := found():
                return result
            self.hear()
        pytest.fail(f"not heard: {vars(self)}")

    def quiet(self, seconds: float) -> None:
        """Nothing is told for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert not self.hear(), vars(self)

    @property
    def quantities(self):
        return [fill.quantity for fill in self.fills]


@contextmanager
def heard(*faults, client_id=0, pace=RARELY, accounts=(), scenario=SMALL, timeout=2.0, whole=True, **options):
    with Simulator(scenario, faults=faults, speed=0, starts_at=MORNING, **options) as sim:
        stream = IbkrBroker(host=sim.host, port=sim.port, client_id=client_id, accounts=accounts).stream(timeout, pace)
        ears = Ears(stream)
        try:
            if whole:
                ears.until(lambda: ears.whole)
            yield sim, ears
        finally:
            stream.close()
        assert eventually(lambda: sim.clients == ()), "a closed stream frees its client id"
        assert sim.order_requests == ()


def test_it_tells_what_is_held_and_todays_fills_and_then_that_it_is_whole():
    with Simulator(SMALL, speed=0, starts_at=MORNING) as sim:
        sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission="1.50")
        stream = IbkrBroker(host=sim.host, port=sim.port, client_id=0).stream(2, RARELY)
        ears = Ears(stream)
        ears.until(lambda: ears.whole)
        stream.close()
    assert [(fill.quantity, fill.price, fill.commission) for fill in ears.fills] == [(3, D("230.10"), D("1.50"))]
    assert ears.held["U1", "ibkr:265598"] == 103
    assert len(ears.held) == 6


def test_a_fill_and_its_commission_are_told_together_and_once():
    with heard() as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission="1.50")
        ears.until(lambda: ears.fills)
        ears.quiet(0.1)
        assert [(fill.quantity, fill.commission) for fill in ears.fills] == [(3, D("1.50"))]
        assert ears.held["U1", "ibkr:265598"] == 103


def test_a_fill_does_not_wait_for_a_commission_that_is_late_and_is_told_again_when_it_comes():
    with heard() as (sim, ears):
        exec_id = sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission=None)
        ears.until(lambda: ears.fills)
        assert [fill.commission for fill in ears.fills] == [None]
        sim.send_commission(exec_id, "1.50")
        ears.until(lambda: len(ears.fills) == 2)
        assert ears.fills[1].commission == D("1.50")
        assert ears.fills[1].execution_id == ears.fills[0].execution_id


def test_a_late_commission_of_another_clients_fill_comes_with_the_next_list_though_newer_fills_are_there():
    """It is pushed to nobody here, and the list of everything is half a minute away."""
    with heard(client_id=17, pace=Pace(poll=0.1)) as (sim, ears):
        first = sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission=None)
        ears.until(lambda: ears.fills)
        sim.advance(5)
        sim.execute("U1", "AAPL", "BUY", 1, "230")
        ears.until(lambda: len(ears.fills) == 2)
        sim.send_commission(first, "1.50")
        ears.until(lambda: len(ears.fills) == 3)
    assert ears.fills[2].commission == D("1.50")


def test_a_commission_that_comes_before_its_execution_is_kept_for_it():
    """The libraries drop it for good."""
    with heard("early-commission") as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission="1.50")
        ears.until(lambda: ears.fills)
        assert [fill.commission for fill in ears.fills] == [D("1.50")]


def test_a_correction_is_the_next_revision_of_the_same_fill():
    with heard() as (sim, ears):
        exec_id = sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        sim.correct(exec_id, quantity=2)
        ears.until(lambda: len(ears.fills) == 2)
        assert [(fill.revision, fill.quantity) for fill in ears.fills] == [(1, 3), (2, 2)]
        assert len({fill.execution_id for fill in ears.fills}) == 1


def test_a_fill_of_others_is_asked_for_when_its_position_changes():
    """Client id 17 is told of the position and not of the execution, and the next list of executions is ten minutes away."""
    with heard(client_id=17) as (sim, ears):
        for number in range(1, 4):
            sim.execute("U1", "AAPL", "BUY", number, "230.10")
            ears.until(lambda number=number: len(ears.fills) == number)
        assert ears.quantities == [1, 2, 3]


def test_a_position_that_a_pushed_fill_explains_raises_no_question():
    with heard() as (sim, ears):
        asked = len([each for each in sim.requests if each.message_id == 7])
        for _ in range(5):
            sim.execute("U1", "AAPL", "BUY", 1, "230.10")
        ears.until(lambda: len(ears.fills) == 5)
        ears.quiet(0.1)
        assert len([each for each in sim.requests if each.message_id == 7]) == asked


def test_what_no_push_tells_is_found_by_the_poll():
    with heard("mute", client_id=17, pace=RARELY._replace(poll=0.05)) as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        ears.until(lambda: ears.fills)
        sim.execute("U2", "SAP", "BUY", 2, "60")
        ears.until(lambda: len(ears.fills) == 2)
        ears.quiet(0.3)  # the same list six times more is no news


def test_an_old_fill_that_is_corrected_is_found_when_all_are_listed_again():
    """The newest are asked for by time, and a correction keeps the time of its fill."""
    with heard("mute", client_id=17, pace=RARELY._replace(poll=0.05, all=0.2)) as (sim, ears):
        first = sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        sim.advance(3600)
        sim.execute("U1", "AAPL", "BUY", 1, "230.10")
        ears.until(lambda: len(ears.fills) == 2)
        sim.correct(first, quantity=2)
        ears.until(lambda: len(ears.fills) == 3)
        assert ears.fills[2].quantity == 2


def test_only_the_accounts_that_are_wanted_are_told_of():
    with heard(accounts=("U2",)) as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        sim.execute("U2", "AAPL", "BUY", 4, "230.10")
        ears.until(lambda: ears.fills)
        ears.quiet(0.05)
        assert [(fill.account, fill.quantity) for fill in ears.fills] == [("U2", 4)]
        assert {account for account, _ in ears.held} == {"U2"}


def test_a_row_that_cannot_be_read_is_told_once_and_the_others_are_heard():
    with heard("garble:executions:row=1", "mute", client_id=17, pace=RARELY._replace(poll=0.05)) as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        ears.until(lambda: ears.refused)
        ears.quiet(0.2)
        sim.heal()
        ears.until(lambda: ears.fills)
        assert "execution that could not be read" in ears.refused[0].reason


# -- the link


@pytest.mark.parametrize(("lost", "code"), [("1100", 1102), ("1101", 1101), ("2110", 1102)])
def test_a_lost_link_is_told_once_and_everything_is_asked_for_when_it_is_back(lost, code):
    with heard() as (sim, ears):
        sim.inject(lost)
        ears.until(lambda: ears.lost)
        sim.notify(int(lost) if lost != "1101" else 1100)  # repeated during a reset
        ears.quiet(0.1)
        assert not ears.whole
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        sim.heal()
        ears.until(lambda: ears.whole)
        assert ears.quantities == [3]
        assert ears.held["U1", "ibkr:265598"] == 103
        assert len(ears.lost) == 1
        positions = [each for each in sim.requests if each.message_id == 61]
        assert len(positions) == 2, f"subscribed to again after {code}"


def test_it_is_not_whole_before_every_list_has_come():
    with heard("hang:executions:account=U2:times=1", whole=False, timeout=0.4) as (_, ears):
        ears.until(lambda: ears.ended)
        assert not ears.whole
        assert "the executions of U2 was outstanding" in ears.ended


def test_a_positions_list_that_never_ends_ends_the_stream():
    with heard("missing-end:positions", whole=False, timeout=0.4) as (_, ears):
        ears.until(lambda: ears.ended)
        assert "the positions list was outstanding" in ears.ended
        assert not ears.whole


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_dropped_connection_is_told_after_everything_that_came_before(how):
    with heard() as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        eventually(lambda: ears.stream.memory.any)
        sim.disconnect_clients(how)
        ears.until(lambda: ears.ended)
        assert ears.quantities == [3]
        assert "the connection was dropped" in ears.ended
        with pytest.raises(BrokerUnavailable):
            ears.stream.take(0)


def test_a_socket_that_is_open_at_our_end_only_is_noticed_by_the_heartbeat():
    with heard() as (sim, ears):
        sim.inject("half-open")
        began = time.monotonic()
        ears.until(lambda: ears.ended)
        assert time.monotonic() - began < 2
        assert "not even the time that was asked for" in ears.ended


def test_a_quiet_gateway_that_answers_is_alive():
    with heard() as (sim, ears):
        before = ears.stream.heard_at
        ears.quiet(1.0)  # twice the time after which silence would end it
        assert ears.stream.heard_at > before
        assert [each for each in sim.requests if each.message_id == 49]


def test_bytes_that_are_no_protocol_end_it():
    with heard("garbage-length:executions:row=1", whole=False) as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10")
        sim.notify(1102)
        ears.until(lambda: ears.ended)


def test_pieces_of_seven_bytes_are_the_same_news():
    with heard("slow") as (sim, ears):
        sim.execute("U1", "AAPL", "BUY", 3, "230.10", commission="1.50")
        ears.until(lambda: ears.fills and ears.fills[-1].commission is not None)
        assert {fill.execution_id for fill in ears.fills} == {ears.fills[0].execution_id}


# -- client ids


def test_the_stream_has_the_configured_id_and_captures_beside_it_begin_with_the_next():
    with heard(client_id=5) as (sim, _):
        broker = IbkrBroker(host=sim.host, port=sim.port, client_id=5)
        asked = len(sim.requests)
        assert {shot.account for shot in broker.beside_a_stream().capture(None, 2).snapshots} == {"U1", "U2"}
        assert {each.client_id for each in sim.requests[asked:]} - {5} == {6}
        broker.capture(None, 2)  # one that knows nothing of the stream finds the id taken, and takes the next


def test_a_stream_waits_for_the_configured_id_and_takes_one_after_the_syncs_only_where_it_stays_taken(monkeypatch):
    with heard(client_id=5) as (sim, ears):
        broker = IbkrBroker(host=sim.host, port=sim.port, client_id=5)
        with pytest.raises(BrokerUnavailable, match="client id 5 is in use"):
            broker.stream(2)
        monkeypatch.setattr(ibkr, "ID_PATIENCE", 0)
        other = broker.stream(2)
        assert other.client_id == 9, "6, 7 and 8 are for syncs"
        other.close()
        ears.stream.close()
        eventually(lambda: sim.clients == ())
        first = broker.stream(2)
        assert first.client_id == 5
        first.close()


# -- many


def test_fifty_accounts_are_asked_about_in_turn_and_all_at_the_start():
    with heard(scenario=many_positions(accounts=50, positions=3), pace=Pace()) as (sim, ears):
        asked = {each.fields[3] for each in sim.requests if each.message_id == 7}
        assert len(asked) == 50
        assert len(ears.held) == 150


def test_a_login_with_too_many_accounts_is_refused_as_a_sync_refuses_it():
    with Simulator(SMALL, faults=["many-accounts"], speed=0) as sim, pytest.raises(BrokerUnavailable, match="this login has 60 accounts"):
        IbkrBroker(host=sim.host, port=sim.port, client_id=0).stream(2, RARELY)


def test_what_was_told_is_forgotten_when_the_broker_lists_it_no_more():
    """The lists begin anew every day; what is known must not grow for as long as the connection lasts."""
    heard_ = Heard()
    heard_._told, heard_._ids = {"a.1": True, "b.1": True}, {"U1": {"a.1", "b.1"}}
    before = heard_.told_of("U1")
    heard_._told["c.1"] = True
    heard_._ids["U1"].add("c.1")
    heard_.listed("U1", {"b.1"}, before)
    assert (heard_.is_told("a.1"), heard_.is_told("b.1"), heard_.is_told("c.1")) == (False, True, True)
    assert GRACE < 0.01
