"""What each PostgreSQL role may do once inside: by the catalogue, and tried.

The tables are written by hand, not read from `infra/postgres/*.sql`, which they are to check. What the stores' own row
policies add is tried in `tests/stores`.
"""

from typing import Final

import asyncpg
import pytest

from infra.local.stack import Stack
from tests.fix_stack import DatabaseAs

JOBS: Final = {
    "accepted_at",
    *("abort", "answer", "attempts", "bulk", "client", "client_id"),
    *("code", "done", "download", "due_at", "expires_at", "fingerprint"),
    *("job_id", "notify", "op", "reason", "reply_to", "request"),
    *("request_tag", "size", "state", "total", "updated_at", "upload"),
}
MAP: Final = {
    *("data_store_uuid", "external_uuid", "item", "job_id", "key_store_uuid", "mac"),
    *("mac_key", "map_share", "owner", "request_tag", "size", "state"),
    "suite",
}

# table -> privilege -> columns
MAY: Final[dict[str, dict[str, dict[str, set[str]]]]] = {
    "gateway": {
        "schema_version": {"SELECT": {"version"}},
        "jobs": dict.fromkeys(("SELECT", "INSERT", "UPDATE"), JOBS),
        "directory": {privilege: {"one", "issued_at", "statement"} for privilege in ("SELECT", "INSERT", "UPDATE")},
    },
    "keystore": {
        "schema_version": {"SELECT": {"version"}},
        "keys": {
            "SELECT": {"key_store_uuid", "key", "iv", "created_at", "erased_at"},
            "INSERT": {"key_store_uuid", "key", "iv", "erased_at"},
            "UPDATE": {"key", "iv", "erased_at"},
        },
        "quarantine": {"SELECT": {"key_store_uuid", "quarantined_at"}, "INSERT": {"key_store_uuid"}},
        "high_water": {"SELECT": {"one", "records"}, "INSERT": {"records"}, "UPDATE": {"records"}},
    },
    "mapstore": {
        "schema_version": {"SELECT": {"version"}},
        "map": {"SELECT": {*MAP, "created_at"}, "INSERT": MAP},
    },
}
MAY_DELETE: Final[dict[str, set[str]]] = {"gateway": {"jobs"}, "keystore": {"quarantine"}, "mapstore": set()}
TABLE: Final = {"gateway": "jobs", "keystore": "keys", "mapstore": "map"}

PRIVILEGES_OF_COLUMNS: Final = """
    SELECT table_name, privilege_type, column_name FROM information_schema.column_privileges
    WHERE grantee IN ('{role}', 'PUBLIC') AND table_schema NOT IN ('pg_catalog', 'information_schema')
"""
PRIVILEGES_OF_TABLES: Final = """
    SELECT table_name, privilege_type FROM information_schema.table_privileges
    WHERE grantee IN ('{role}', 'PUBLIC') AND table_schema NOT IN ('pg_catalog', 'information_schema')
"""
# What a role must have none of: attributes, memberships, things of its own, ways to make things, other databases.
EXTRAS: Final = {
    "an attribute": """
        SELECT rolname FROM pg_roles WHERE rolname = '{role}'
        AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)
    """,
    "a membership": "SELECT roleid::regrole FROM pg_auth_members WHERE member = '\"{role}\"'::regrole",
    "a relation": "SELECT relname FROM pg_class WHERE relowner = '\"{role}\"'::regrole",
    "a right to create": """
        SELECT nspname FROM pg_namespace WHERE has_schema_privilege('{role}', oid, 'CREATE')
        UNION ALL SELECT datname FROM pg_database
        WHERE has_database_privilege('{role}', oid, 'CREATE') OR has_database_privilege('{role}', oid, 'TEMPORARY')
    """,
    "another database": """
        SELECT datname FROM pg_database WHERE datallowconn
        AND has_database_privilege('{role}', oid, 'CONNECT') AND datname <> '{database}'
    """,
    "a function of ours": "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "a right to grant": """
        SELECT table_name FROM information_schema.column_privileges WHERE grantee = '{role}' AND is_grantable = 'YES'
    """,
    "an extension": "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'",
}

ATTACKS: Final = (
    "TRUNCATE {table}",
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD COLUMN mine integer",
    "ALTER TABLE {table} DISABLE TRIGGER ALL",
    'ALTER TABLE {table} OWNER TO "{role}"',
    "CREATE INDEX mine ON {table} (created_at)",
    "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
    "COMMENT ON TABLE {table} IS 'mine'",
    "CREATE TABLE mine (x integer)",
    "CREATE TEMP TABLE mine (x integer)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE SCHEMA mine",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "DO LANGUAGE plpgsql $$ BEGIN CREATE TABLE mine (x integer); END $$",
    "INSERT INTO schema_version VALUES (2)",
    "UPDATE schema_version SET version = 2",
    "DELETE FROM schema_version",
    "COPY {table} TO PROGRAM 'cat'",
    "COPY {table} FROM PROGRAM 'true'",
    "COPY {table} TO '/tmp/mine'",
    "COPY schema_version FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/mine')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT pg_reload_conf()",
    "ALTER SYSTEM SET log_statement = 'all'",
    "SET log_statement = 'all'",
    "SET session_replication_role = replica",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    'ALTER ROLE "{role}" SUPERUSER',
    'ALTER ROLE "{role}" BYPASSRLS',
    'GRANT pg_read_server_files TO "{role}"',
    "ALTER DATABASE {database} SET log_statement = 'all'",
    "DROP DATABASE {database}",
)
MORE: Final = {
    "gateway": ("DELETE FROM directory", "TRUNCATE directory"),
    "keystore": (
        "DELETE FROM keys",
        "DO $$ BEGIN LOCK TABLE keys; END $$",
        "UPDATE keys SET key_store_uuid = gen_random_uuid()",
        "UPDATE keys SET created_at = now()",
        "ALTER TABLE keys DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE keys NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY erase ON keys",
        "CREATE POLICY mine ON keys USING (true)",
        "COPY keys FROM STDIN",
        "UPDATE quarantine SET quarantined_at = now()",
        "INSERT INTO quarantine VALUES (gen_random_uuid(), now())",
        "DELETE FROM high_water",
        "INSERT INTO high_water VALUES (true, 0)",
    ),
    "mapstore": (
        "DELETE FROM map",
        "DO $$ BEGIN LOCK TABLE map; END $$",
        "UPDATE map SET state = 'aborted'",
        "UPDATE map SET external_uuid = external_uuid",
        "UPDATE map SET created_at = now()",
        "SELECT 1 FROM map FOR UPDATE",
        "COPY map FROM STDIN",
    ),
}


@pytest.mark.parametrize("database", MAY)
def test_the_catalogue_grants_what_is_written_here(stack: Stack, database: str) -> None:
    """Every privilege on every table and column, and none to everybody."""
    role = f"svc.{database}"
    columns: dict[str, dict[str, set[str]]] = {}
    for line in stack.psql(database, PRIVILEGES_OF_COLUMNS.format(role=role)).splitlines():
        table, privilege, column = line.split("|")
        columns.setdefault(table, {}).setdefault(privilege, set()).add(column)
    assert columns == MAY[database]
    lines = stack.psql(database, PRIVILEGES_OF_TABLES.format(role=role)).splitlines()
    whole = {(table, privilege) for table, privilege in (line.split("|") for line in lines)}
    of_tables_only = {each for each in whole if each[1] not in {"SELECT", "INSERT", "UPDATE"}}
    assert of_tables_only == {(table, "DELETE") for table in MAY_DELETE[database]}


@pytest.mark.parametrize("database", MAY)
@pytest.mark.parametrize("query", EXTRAS.values(), ids=EXTRAS)
def test_a_role_has_nothing_beyond_its_grants(stack: Stack, database: str, query: str) -> None:
    """No attribute, membership, ownership, function or right to make anything."""
    assert stack.psql(database, query.format(role=f"svc.{database}", database=database)) == ""


@pytest.mark.parametrize("database", MAY)
async def test_what_is_not_granted_is_refused(database_as: DatabaseAs, database: str) -> None:
    """Each is tried with the real role, and refused for want of a privilege, not by chance."""
    settings = database_as(f"svc.{database}", database)
    connection = await asyncpg.connect(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        database=settings.name,
        ssl=settings.ssl_context(),
        timeout=10,
        command_timeout=10,
    )
    names = {"role": settings.user, "database": database, "table": TABLE[database]}
    try:
        done = [statement for statement in (*ATTACKS, *MORE[database]) if await _done(connection, statement, names)]
    finally:
        await connection.close()
    assert done == []


async def _done(connection: asyncpg.Connection, statement: str, names: dict[str, str]) -> bool:
    """Whether it was done; any other error than a refusal is one of this test."""
    try:
        await connection.execute(statement.format(**names))
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True
