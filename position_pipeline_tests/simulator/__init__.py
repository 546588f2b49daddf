"""Tests of the simulated broker: with clients that are not ours, over real sockets on loopback."""
