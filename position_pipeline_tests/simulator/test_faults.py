"""Faults as text, and how often they happen."""

from decimal import Decimal

import pytest

from position_pipeline.simulator import ACTIONS, Fault, FaultError, known_faults
from position_pipeline.simulator.faults import Faults


def test_a_fault_is_written_with_its_target_and_options() -> None:
    assert Fault.parse("hang:positions") == Fault("hang", "positions")
    written = Fault.parse("truncate:positions:after=2:account=U1:times=3")
    assert written == Fault("truncate", "positions", after=2, account="U1", times=3)
    assert Fault.parse("late-commission:seconds=2.5").seconds == Decimal("2.5")
    assert Fault.parse("duplicate-row:positions:stale=1").stale is True
    assert Fault.parse("1100") == Fault("1100")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explode", "unknown fault 'explode'. Known faults:"),
        ("hang", "hang needs one of these: hang:positions"),
        ("truncate:handshake", "truncate needs one of these"),
        ("hang:positions:often=2", "'often=2' is no option; write key=value with one of after"),
        ("hang:positions:times=two", "times must be a number, not 'two'"),
        ("refuse:accounts", "refuse takes no target"),
    ],
)
def test_unknown_text_is_answered_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(FaultError) as caught:
        Fault.parse(text)
    assert message in str(caught.value)


def test_the_list_of_known_faults_has_every_one_with_its_meaning() -> None:
    shown = known_faults()
    for action, (_, meaning) in ACTIONS.items():
        assert action in shown
        assert meaning in shown


def test_a_fault_with_times_happens_that_often_and_looking_does_not_count() -> None:
    faults = Faults(["hang:positions:times=2"])
    assert faults.find("hang", "positions")
    assert [bool(faults.take("hang", "positions")) for _ in range(3)] == [True, True, False]
    assert faults.find("hang", "positions") is None


def test_a_fault_for_one_account_leaves_the_others_alone() -> None:
    faults = Faults(["hang:account-updates:account=U1"])
    assert faults.find("hang", "account-updates", "U1")
    assert faults.find("hang", "account-updates", "U2") is None
    assert faults.find("hang", "positions", "U1") is None


def test_clearing_switches_all_off_and_says_what_was_on() -> None:
    faults = Faults(["silent", "mute"])
    assert [fault.action for fault in faults.clear()] == ["silent", "mute"]
    assert faults.active() == []
