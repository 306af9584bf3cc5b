-- The KeyStore's database: wrapped keys, and what a sweep notes of them. Applied by the owner; the role gets what it needs.

CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY);
INSERT INTO schema_version VALUES (2) ON CONFLICT DO NOTHING;
DELETE FROM schema_version WHERE version < 2;  -- 1 had no quarantine; what follows adds it

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

-- Keys that no row of the MapStore named. A table of its own: a right to note this in `keys` would be one to replace keys.
CREATE TABLE IF NOT EXISTS quarantine (
    key_store_uuid uuid        PRIMARY KEY,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);

-- The most records that the MapStore was ever seen to hold: with fewer, it is empty or rolled back, and nothing is swept.
CREATE TABLE IF NOT EXISTS high_water (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    records bigint  NOT NULL CHECK (records >= 0)
);

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO "svc.keystore";
GRANT SELECT ON schema_version TO "svc.keystore";
GRANT SELECT, INSERT (key_store_uuid, key, iv, erased_at), UPDATE (key, iv, erased_at) ON keys TO "svc.keystore";
GRANT SELECT, INSERT (key_store_uuid), DELETE ON quarantine TO "svc.keystore";
GRANT SELECT, INSERT (records), UPDATE (records) ON high_water TO "svc.keystore";
