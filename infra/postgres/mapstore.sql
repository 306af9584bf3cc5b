-- The MapStore's database: one table that says what became of each item. Applied by the owner; the role gets what it needs.

CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY);
INSERT INTO schema_version VALUES (1) ON CONFLICT DO NOTHING;

-- The first row of an (owner, job_id, item) wins for good: it is the record, or the promise that there will be none.
CREATE TABLE IF NOT EXISTS map (
    owner           bytea       NOT NULL CHECK (octet_length(owner) = 16),
    job_id          uuid        NOT NULL,
    item            integer     NOT NULL CHECK (item BETWEEN 0 AND 10000),
    state           text        NOT NULL CHECK (state IN ('live', 'aborted')),
    external_uuid   uuid        UNIQUE,
    data_store_uuid uuid,
    key_store_uuid  uuid,
    map_share       bytea       CHECK (octet_length(map_share) = 32),
    request_tag     bytea       NOT NULL CHECK (octet_length(request_tag) = 32),
    size            bigint      NOT NULL CHECK (size >= 0),
    suite           smallint    NOT NULL CHECK (suite BETWEEN 1 AND 255),
    mac_key         integer     NOT NULL CHECK (mac_key >= 1),
    mac             bytea       NOT NULL CHECK (octet_length(mac) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner, job_id, item),
    CHECK (num_nulls(external_uuid, data_store_uuid, key_store_uuid, map_share) = CASE state WHEN 'live' THEN 0 ELSE 4 END)
);

-- A sweep asks which keys and objects a row names.
CREATE INDEX IF NOT EXISTS map_keys ON map (key_store_uuid) WHERE key_store_uuid IS NOT NULL;
CREATE INDEX IF NOT EXISTS map_objects ON map (data_store_uuid) WHERE data_store_uuid IS NOT NULL;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO "svc.mapstore";
GRANT SELECT ON schema_version TO "svc.mapstore";
GRANT SELECT, INSERT (owner, job_id, item, state, external_uuid, data_store_uuid, key_store_uuid, map_share,
                      request_tag, size, suite, mac_key, mac) ON map TO "svc.mapstore";
