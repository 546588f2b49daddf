"""A database is brought to this version's tables, whatever it was before, and one of another version is not touched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from position_pipeline.store import DatabaseUnavailable, Store, WrongRevision, migrate, queries, schema, upgrade
from position_pipeline_tests.store.tables import query

# What a name and its table say already.
SELF_EXPLANATORY = {
    "account", "at", "base_currency", "basis", "basis_quality", "book_quantity", "broker_quantity", "class", "closed_at", "closing_commission",
    "commission", "commission_currency", "connection", "cost", "currency", "cycle", "description", "entry_price", "errors", "exchange",
    "exit_price", "expiry", "finished_at", "first_seen_at", "from_at", "id", "imported_at", "instrument", "kind", "last_seen_at", "market_price",
    "market_value", "method", "multiplier", "net_pnl", "opened_at", "opening_commission", "order_id", "outcome", "price", "proposal", "quantity",
    "quantity_after", "quantity_before", "realized_pnl", "reason", "recorded_at", "resolved_at", "sec_type", "sequence", "sha256", "side",
    "snapshot_id", "snapshot_status", "source", "started_at", "status", "strike", "symbol", "time", "to_at", "type", "underlying",
    "unrealized_pnl", "broker", "duration_ms", "closed", "created", "updated", "unchanged", "taken_at", "believed_at", "superseded_at",
    "accepted_at", "accepted_by", "accepted_why", "dismissed_at", "dismissed_by", "dismissed_reason", "reversed_by", "reversed_why",
    "last_entry_id", "last_entry_rank", "last_entry_sequence", "evidence", "fees", "amount", "opening_id", "opening_revision", "execution_id",
}  # fmt: skip


def connect(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"), poolclass=sa.pool.NullPool)


def test_an_empty_database_gets_all_tables(empty_database):
    assert upgrade(empty_database) == (None, migrate.REVISION)
    found = {row["tablename"] for row in query(empty_database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert found == {*schema.metadata.tables, "alembic_version"}
    Store(empty_database).close()


def test_upgrading_again_changes_nothing(database):
    before = query(database, "SELECT oid, relname, xmin FROM pg_class ORDER BY oid")
    assert upgrade(database) == (migrate.REVISION, migrate.REVISION)
    assert query(database, "SELECT oid, relname, xmin FROM pg_class ORDER BY oid") == before


def test_two_upgrades_at_once_wait_for_each_other(empty_database):
    with ThreadPoolExecutor(4) as pool:
        before = [future.result()[0] for future in [pool.submit(upgrade, empty_database) for _ in range(4)]]
    assert sorted(before, key=str) == [migrate.REVISION] * 3 + [None]


def test_the_revision_that_the_product_asks_for_is_the_newest_there_is():
    assert ScriptDirectory.from_config(migrate.alembic_config()).get_heads() == [migrate.REVISION]


def test_the_migrations_make_exactly_the_tables_of_the_schema(database):
    engine = connect(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, schema.metadata)
    engine.dispose()
    assert [difference for difference in found if "alembic_version" not in str(difference)] == []


def test_the_migrations_make_exactly_the_constraints_and_indexes_of_the_schema(database, empty_database):
    """Alembic compares neither checks nor conditions of indexes: the same tables made from the schema must have the same ones."""
    engine = connect(empty_database)
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
    engine.dispose()
    everything = """
        SELECT conrelid::regclass::text AS of, conname AS name, pg_get_constraintdef(oid) AS said FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT table_name, column_name, concat_ws(' ', column_default, generation_expression, is_nullable)
                  FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
                  WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
        ORDER BY 1, 2, 3
    """
    migrated = [row for row in query(database, everything) if row["of"] != "alembic_version"]
    assert migrated == query(empty_database, everything)


def test_the_migrations_make_exactly_the_views_that_are_written_down(database):
    sql = "SELECT viewname AS name, pg_get_viewdef(viewname::regclass) AS text FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
    migrated = query(database, sql)
    assert {row["name"] for row in migrated} == set(queries.load("views"))
    for name, select in queries.load("views").items():
        query(database, f"DROP VIEW {name}")
        query(database, f"CREATE VIEW {name} AS {select}")
    assert query(database, sql) == migrated


def test_every_table_says_what_one_row_is_and_every_column_that_needs_it_what_it_holds(database):
    tables = query(
        database, "SELECT relname, obj_description(oid) AS said FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    assert {row["relname"] for row in tables if not (row["said"] or "").startswith("One row is ")} == {"alembic_version"}
    columns = query(
        database,
        "SELECT attrelid::regclass::text AS of, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relkind = 'r' AND attnum > 0 "
        "AND relnamespace = 'public'::regnamespace AND col_description(attrelid, attnum) IS NULL AND relname <> 'alembic_version'",
    )
    assert [row for row in columns if row["attname"] not in SELF_EXPLANATORY] == []


def test_numbers_are_exact_and_times_have_a_zone(database):
    columns = query(database, "SELECT column_name, data_type, numeric_scale FROM information_schema.columns WHERE table_schema = 'public'")
    kinds = {row["data_type"] for row in columns}
    assert "timestamp without time zone" not in kinds
    assert "real" not in kinds
    assert {row["column_name"] for row in columns if row["data_type"] == "double precision"} == {"last_entry_sequence"}
    assert not [row for row in columns if row["data_type"] == "numeric" and row["numeric_scale"] is not None]


def test_a_database_without_our_tables_is_refused_with_what_to_do(empty_database):
    with pytest.raises(WrongRevision, match=r"no tables of position_pipeline yet\. Run: position-pipeline db upgrade"):
        Store(empty_database)


@pytest.mark.parametrize(("found", "said"), [("0000", "at revision 0000, this version needs 0003"), ("9999", "9999, which is newer than")])
def test_a_database_of_another_version_is_refused_with_what_to_do(database, found, said):
    query(database, "UPDATE alembic_version SET version_num = %s", [found])
    with pytest.raises(WrongRevision, match=said):
        Store(database)


def test_a_newer_database_is_not_downgraded(database):
    query(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(WrongRevision, match="newer than this version's 0003"):
        upgrade(database)


def test_a_server_that_is_not_there_is_named_without_the_password():
    with pytest.raises(DatabaseUnavailable, match=r"PostgreSQL at 127\.0\.0\.1:1/book cannot be used") as told:
        Store("postgresql://someone:hushhush@127.0.0.1:1/book")
    assert "hushhush" not in str(told.value)


@pytest.mark.parametrize("secret", ["hush/hush", "hush%zzhush", "hush?hush", "hush#hush"])
def test_a_password_that_breaks_the_url_is_not_quoted(secret):
    with pytest.raises(DatabaseUnavailable, match="cannot be used") as told:
        Store(f"postgresql://someone:{secret}@127.0.0.1:1/book")
    assert "hush" not in str(told.value)
