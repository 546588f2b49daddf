"""A broker you can run: it speaks the TWS API on loopback, plays a scenario, and misbehaves on request.

Standard library only, and nothing of the product but itself: it is an independent oracle for the product's tests and
the broker of the demo. What is exported here is what others may use.

    with Simulator(default_scenario(), speed=0) as broker:
        ...                       # connect any TWS API client to broker.host, broker.port
        broker.execute("U1000001", "AAPL", "BUY", 10, "230.10")
"""

from position_pipeline.simulator.book import BookError
from position_pipeline.simulator.faults import ACTIONS, TARGETS, Fault, FaultError, known_faults
from position_pipeline.simulator.ledger import Execution
from position_pipeline.simulator.requests import Request
from position_pipeline.simulator.scenario import (
    Account,
    Event,
    Instrument,
    Opening,
    Rounds,
    Scenario,
    many_positions,
)
from position_pipeline.simulator.scenario_file import ScenarioError, default_scenario, load_scenario
from position_pipeline.simulator.simulator import Simulator, serve
from position_pipeline.simulator.state import StateError

__all__ = [
    "ACTIONS",
    "TARGETS",
    "Account",
    "BookError",
    "Event",
    "Execution",
    "Fault",
    "FaultError",
    "Instrument",
    "Opening",
    "Request",
    "Rounds",
    "Scenario",
    "ScenarioError",
    "Simulator",
    "StateError",
    "default_scenario",
    "known_faults",
    "load_scenario",
    "many_positions",
    "serve",
]
