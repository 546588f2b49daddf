"""What the tables are made of: the one `MetaData`, kinds of columns, keys and constraints that several tables have.

Belongs here: what more than one module of this package needs. Does not belong here: tables.

Numbers are NUMERIC without a scale: brokers send up to 24 decimals and none is cut. Times are timestamptz.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

Text, Numeric, Integer, BigInteger, Boolean = sa.Text, sa.Numeric, sa.Integer, sa.BigInteger, sa.Boolean
Time = sa.DateTime(timezone=True)
METHODS = "'average', 'fifo', 'lifo', 'hifo'"
BASES = "'fills', 'statement', 'broker', 'unknown'"
NOW = sa.text("now()")


def column(name: str, kind: sa.types.TypeEngine[Any] | type, comment: str = "", **options: Any) -> sa.Column[Any]:
    """A column that is NOT NULL unless it says otherwise."""
    options.setdefault("nullable", False)
    return sa.Column(name, kind, comment=comment or None, **options)


def generated_id() -> sa.Column[Any]:
    return sa.Column("id", BigInteger, sa.Identity(always=True), primary_key=True)


def finite(*columns: str) -> sa.CheckConstraint:
    """NUMERIC takes NaN and infinities; the book does not. NaN counts as greater than everything."""
    return sa.CheckConstraint(
        " AND ".join(f"{name} > '-Infinity' AND {name} < 'Infinity'" for name in " ".join(columns).split()), name="finite"
    )


def account_key(**options: Any) -> sa.Column[Any]:
    return sa.Column("account", Text, sa.ForeignKey("accounts.account"), nullable=False, **options)


def instrument_key(**options: Any) -> sa.Column[Any]:
    return sa.Column("instrument", Text, sa.ForeignKey("instruments.instrument"), nullable=False, **options)
