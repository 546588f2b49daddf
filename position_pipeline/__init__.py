"""position_pipeline keeps a PostgreSQL database of broker positions provably right.

ARCHITECTURE.md says what lives where. The accounting is in `accounting`, and knows nothing of the rest.
"""
