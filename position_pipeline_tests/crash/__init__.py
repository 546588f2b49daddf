"""The product as it runs in life, and what happens when parts of it are killed.

    world.py      a running `position-pipeline up`, its broker, and who of its processes is who
    trading.py    fills that stream in at the broker while the world lives
    checking.py   what must hold: the broker's truth, held against the database
    rounds.py     a seed becomes a list of kills; each is done, healed from and checked

`python -m position_pipeline_tests.crash --rounds 500` plays that many, `--seed N` the same ones again.
"""
