"""The tests mirror the package: sentences, real PostgreSQL, real sockets, the arithmetic beside the expected number."""
