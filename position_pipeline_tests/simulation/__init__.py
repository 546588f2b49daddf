"""Random days of invented accounts, played through the simulator's model into capture, record and reconcile.

    plan.py     a seed becomes a list of steps: what happens in the market, at the broker, and to the answers; from here on nothing is random
    world.py    plays the steps on the simulated broker, keeps the complete list of what happened, and makes answers and statements of it
    faults.py   what may be wrong with an answer
    driver.py   syncs with the real store, heals, and asks the checker
    checker.py  what must hold; the true book by brute force over the complete list

`python -m position_pipeline_tests.simulation --minutes 5` looks for new failures, `--seed N` plays one history again.
"""
