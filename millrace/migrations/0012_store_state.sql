-- A store that comes back: from a backup, as a promoted replica, on another server. docs/adr/0001-restored-stores.md

-- Whether this store may be appended to, and what was noted of the server that it was last compared on. The row is copied
-- with the data; the start time of the server that runs a copy is not. So a copy is unverified until it was compared.
CREATE TABLE store_state (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    state             text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'behind')),
    reason            text        NOT NULL DEFAULT '',
    since             timestamptz NOT NULL DEFAULT clock_timestamp(),
    system_identifier bigint      NOT NULL,
    timeline          integer     NOT NULL,
    synchronous       boolean     NOT NULL,  -- whether a synchronous standby was declared
    verified_start    timestamptz NOT NULL   -- start of the server on which topic and store were last found to agree
);

CREATE FUNCTION server_timeline() RETURNS integer LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    -- Not pg_control_checkpoint(): right after a promotion that still names the old timeline.
    SELECT ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
$$;

-- A store that is made from nothing may stand where another one was lost: it is compared first. One that has events is known.
-- millrace.new_stores_are_verified is for tests of one part alone, where no relay compares.
INSERT INTO store_state (system_identifier, timeline, synchronous, verified_start)
SELECT (pg_control_system()).system_identifier, server_timeline(), current_setting('synchronous_standby_names') <> '',
       CASE WHEN EXISTS (SELECT FROM events) OR current_setting('millrace.new_stores_are_verified', true) = 'on'
            THEN pg_postmaster_start_time() ELSE '-infinity' END;

-- Whether the topic was compared with this store since the server started.
CREATE FUNCTION store_verified() RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.state = 'open' AND s.verified_start = pg_postmaster_start_time() FROM public.store_state s
$$;

-- Why nothing may be appended; NULL: it may.
CREATE FUNCTION store_refusal() RETURNS text LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    noted public.store_state;
BEGIN
    SELECT * INTO STRICT noted FROM public.store_state;
    IF noted.state <> 'open' THEN
        RETURN noted.reason;
    END IF;
    IF noted.verified_start = pg_postmaster_start_time() OR noted.synchronous THEN
        RETURN NULL;
    END IF;
    IF noted.timeline <> public.server_timeline() OR noted.system_identifier <> (pg_control_system()).system_identifier THEN
        RETURN 'this store moved: it runs on another server or timeline than before, and has not been compared with its topic yet';
    END IF;
    RETURN NULL;
END $$;

-- The comparison found nothing missing: from here on this server is the one that is known.
CREATE FUNCTION note_store_verified() RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.store_state
    SET state = 'open', reason = '', since = CASE WHEN state = 'open' THEN since ELSE clock_timestamp() END,
        system_identifier = (pg_control_system()).system_identifier, timeline = public.server_timeline(),
        synchronous = current_setting('synchronous_standby_names') <> '', verified_start = pg_postmaster_start_time()
$$;

-- The topic holds events that this store lacks. Takes the append lock: whoever appends next sees it.
CREATE FUNCTION note_store_behind(p_reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7815263014);
    UPDATE public.store_state
    SET since = CASE WHEN state = 'behind' THEN since ELSE clock_timestamp() END, state = 'behind', reason = p_reason
    WHERE state <> 'behind' OR reason <> p_reason;
END $$;

REVOKE EXECUTE ON FUNCTION server_timeline, store_verified, store_refusal, note_store_verified, note_store_behind FROM PUBLIC;
GRANT EXECUTE ON FUNCTION server_timeline, store_verified, store_refusal, note_store_verified, note_store_behind
    TO millrace_service;
GRANT EXECUTE ON FUNCTION server_timeline, store_verified, store_refusal TO millrace_reader, millrace_board;
GRANT SELECT ON store_state TO millrace_service, millrace_reader, millrace_board;

-- Where one epoch of this store ended and the next one begins: only if events were lost for good.
CREATE TABLE store_lineage (
    number     integer     PRIMARY KEY,  -- 1, 2, 3 ...
    old_epoch  uuid        NOT NULL UNIQUE,
    ended_at   bigint      NOT NULL,     -- the last position of the old epoch that this store has
    new_epoch  uuid        NOT NULL UNIQUE,
    prefixes   text[]      NOT NULL,     -- what the ids of this store's streams begin with
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    renewed_by text        NOT NULL
);
GRANT SELECT ON store_lineage TO millrace_service, millrace_reader, millrace_board;

-- lineage_sent: how many of the rows above the topic has. lease_until: until then the leader is taken for alive.
ALTER TABLE relay_cursor
    ADD COLUMN lineage_sent integer NOT NULL DEFAULT 0,
    ADD COLUMN lease_until  timestamptz,
    ADD COLUMN leader_pid   integer;

-- The last event of each stream that a consumer has seen, beside its version: the same version with another id is a
-- conflict. NULL: seen before this was kept. A position without an id: the stream was cut there by a lineage record.
ALTER TABLE consumer_streams
    ADD COLUMN event_id uuid,
    ADD COLUMN position bigint;

-- A process of the release before this one moves the version alone. What stood beside it is then of an older event, and
-- must not be compared with: a true repeat would look like a conflict.
CREATE FUNCTION forget_last_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.event_id := NULL;
    NEW.position := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_last_event BEFORE UPDATE ON consumer_streams FOR EACH ROW
    WHEN (NEW.version <> OLD.version AND NEW.event_id IS NOT DISTINCT FROM OLD.event_id)
    EXECUTE FUNCTION forget_last_event();

-- The last position of an epoch that ended, as a lineage record said.
ALTER TABLE consumer_positions ADD COLUMN ended_at bigint;

-- What a consumer had applied of events that their store has lost for good.
CREATE TABLE lost_events (
    consumer   text        NOT NULL,
    stream_id  text        NOT NULL,
    epoch      uuid        NOT NULL,  -- that the events were of
    ended_at   bigint      NOT NULL,  -- the last position that its store still has
    version    integer     NOT NULL,  -- the last one that was seen here
    position   bigint      NOT NULL,
    event_id   uuid,
    noted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, stream_id, epoch)
);
GRANT SELECT, INSERT ON lost_events TO millrace_service;
GRANT SELECT ON lost_events TO millrace_reader, millrace_board;

-- Records of the topic that the store lacks, on their way back (`restore`). For the owner only.
CREATE TABLE restored_events (
    event_id       uuid        PRIMARY KEY,
    position       bigint      NOT NULL,
    stream_id      text        NOT NULL,
    version        integer     NOT NULL,
    type           text        NOT NULL,
    schema_version integer     NOT NULL,
    data           json        NOT NULL,
    metadata       json        NOT NULL,
    recorded_at    timestamptz NOT NULL,
    partition      integer     NOT NULL,
    record_offset  bigint      NOT NULL,
    record_format  integer     NOT NULL,  -- 1: the record did not carry all metadata
    epoch          uuid        NOT NULL
);

-- Events that were appended to a restored store before anybody noticed, and what became of them.
CREATE TABLE forked_events (
    event_id       uuid        NOT NULL,
    position       bigint      NOT NULL,  -- as they were appended
    stream_id      text        NOT NULL,
    version        integer     NOT NULL,
    type           text        NOT NULL,
    schema_version integer     NOT NULL,
    data           json        NOT NULL,
    metadata       json        NOT NULL,
    recorded_at    timestamptz NOT NULL,
    outcome        text        NOT NULL CHECK (outcome IN ('kept', 'appended', 'already so', 'refused')),
    detail         text        NOT NULL DEFAULT '',
    new_position   bigint,
    new_version    integer,
    forked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, position)
);
GRANT SELECT ON restored_events, forked_events TO millrace_service, millrace_reader;
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON forked_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change();
ALTER TABLE forked_events ENABLE ALWAYS TRIGGER append_only;
