-- The KeyStore's database: one table of wrapped keys. Applied by the owner; the role gets what it needs.

CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY);
INSERT INTO schema_version VALUES (1) ON CONFLICT DO NOTHING;

-- A row without key and iv is a tombstone: its id was erased, or must never come to life.
CREATE TABLE IF NOT EXISTS keys (
    key_store_uuid uuid        PRIMARY KEY,
    key            bytea       CHECK (octet_length(key) BETWEEN 1 AND 2048),
    iv             bytea       CHECK (octet_length(iv) = 24),
    created_at     timestamptz NOT NULL DEFAULT now(),
    erased_at      timestamptz,
    CHECK ((key IS NULL) = (erased_at IS NOT NULL)),
    CHECK ((iv IS NULL) = (erased_at IS NOT NULL))
);

-- Wrapped keys do not compress, and fit into the row.
ALTER TABLE keys ALTER COLUMN key SET STORAGE PLAIN, ALTER COLUMN iv SET STORAGE PLAIN;

-- Column grants cannot say "only to erase"; these policies do: a key is never replaced, and an erased one never returns.
BEGIN;
ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS read ON keys;
DROP POLICY IF EXISTS dump ON keys;
DROP POLICY IF EXISTS erase ON keys;
CREATE POLICY read ON keys FOR SELECT USING (true);
CREATE POLICY dump ON keys FOR INSERT WITH CHECK (true);
CREATE POLICY erase ON keys FOR UPDATE USING (erased_at IS NULL) WITH CHECK (erased_at IS NOT NULL);
COMMIT;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO "svc.keystore";
GRANT SELECT ON schema_version TO "svc.keystore";
GRANT SELECT, INSERT (key_store_uuid, key, iv, erased_at), UPDATE (key, iv, erased_at) ON keys TO "svc.keystore";
