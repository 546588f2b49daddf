"""How fast it is, measured here and now: `make bench`. Never part of the tests, because machines differ."""
