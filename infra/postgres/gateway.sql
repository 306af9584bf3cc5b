-- The gateway's database: the job ledger, which is also the outbox. Applied by the owner; the role gets what it needs.

CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY);
INSERT INTO schema_version VALUES (2) ON CONFLICT DO NOTHING;
DELETE FROM schema_version WHERE version < 2;  -- 1 had no accepted_at; what follows adds it

CREATE TABLE IF NOT EXISTS jobs (
    client_id   bytea       NOT NULL CHECK (octet_length(client_id) = 16),
    job_id      uuid        NOT NULL,
    client      text        NOT NULL,
    op          text        NOT NULL,
    request_tag bytea       NOT NULL CHECK (octet_length(request_tag) = 32),
    fingerprint bytea       NOT NULL CHECK (octet_length(fingerprint) = 32),  -- of the request, for its sender
    size        bigint      NOT NULL CHECK (size >= 0),
    bulk        boolean     NOT NULL,
    upload      text,                    -- the queue that the payload goes to
    state       text        NOT NULL DEFAULT 'accepted'
                            CHECK (state IN ('accepted', 'running', 'succeeded', 'failed', 'expired')),
    code        text,                    -- only of an end that could not be sealed
    reason      text        NOT NULL DEFAULT '',
    done        bigint      NOT NULL DEFAULT 0,
    total       bigint      NOT NULL DEFAULT 0,
    download    text,                    -- the queue that a large result comes from
    request     bytea,                   -- sealed; kept until the job is over
    answer      bytea,                   -- sealed; a load's is dropped once it was delivered
    notify      boolean     NOT NULL,
    reply_to    text,                    -- who waits; a direct reply-to token, worthless once its channel is gone
    attempts    integer     NOT NULL DEFAULT 1,
    abort       text,                    -- set once the job is to be settled as failed, with this code
    due_at      timestamptz,             -- when to hand it out again; NULL once it is over
    expires_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, job_id)
);

ALTER TABLE jobs ADD COLUMN IF NOT EXISTS accepted_at timestamptz NOT NULL DEFAULT now();

-- Sealed bytes do not compress.
ALTER TABLE jobs ALTER COLUMN request SET STORAGE EXTERNAL, ALTER COLUMN answer SET STORAGE EXTERNAL;

CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_at) INCLUDE (client_id, size) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_over ON jobs (updated_at) WHERE due_at IS NULL;

-- The Cryptor's newest key statement, served to clients, who check its signature against their pin.
CREATE TABLE IF NOT EXISTS directory (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    issued_at bigint  NOT NULL,
    statement bytea   NOT NULL
);

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO "svc.gateway";
GRANT SELECT ON schema_version TO "svc.gateway";
GRANT SELECT, INSERT, UPDATE, DELETE ON jobs TO "svc.gateway";
GRANT SELECT, INSERT, UPDATE ON directory TO "svc.gateway";
