-- Decides a batch of proposals in one transaction, by rules that are written out for the bench's workload.
--
-- As the gate: one decision for each proposal, a repeated one is known again, an expired or stale one refused; the
-- positions in the log are committed with what was decided, so that it is exact.
--
-- Not as the gate: decisions stay in the outbox, and who sends them on to Kafka is not measured; it decides by its own
-- clock, so that nothing can be decided again; rules are code, a memory is never forgotten, and a decision says little.
CREATE TABLE entity (entity_id text PRIMARY KEY, version bigint NOT NULL, state jsonb NOT NULL);
CREATE TABLE verdict (entity_id text, dedup_key text, decision jsonb NOT NULL, PRIMARY KEY (entity_id, dedup_key));
CREATE TABLE outbox (part int, log_offset bigint, decision jsonb NOT NULL, PRIMARY KEY (part, log_offset));

CREATE PROCEDURE decide(proposals jsonb, parts int[], log_offsets bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
    proposal record;
    current bigint;
    reason text;
    decision jsonb;
    decisions jsonb[] := '{}';
BEGIN
    FOR proposal IN
        SELECT * FROM jsonb_to_recordset(proposals) AS one (
            proposal_id text, entity_id text, dedup_key text, base_version bigint, valid_until bigint, payload jsonb
        )
    LOOP
        SELECT e.version INTO current FROM entity e WHERE e.entity_id = proposal.entity_id;
        current := coalesce(current, 0);
        reason := CASE
            WHEN EXISTS (
                SELECT FROM verdict v WHERE v.entity_id = proposal.entity_id AND v.dedup_key = proposal.dedup_key
            ) THEN 'REPEATED'
            WHEN proposal.valid_until < now_ms THEN 'EXPIRED'
            WHEN proposal.base_version <> current THEN 'STALE'
            ELSE 'NONE'
        END;
        IF reason = 'NONE' THEN
            current := current + 1;
            INSERT INTO entity AS e VALUES (proposal.entity_id, current, proposal.payload)
                ON CONFLICT (entity_id) DO UPDATE SET version = excluded.version, state = excluded.state;
        END IF;
        decision := jsonb_build_object(
            'proposal_id', proposal.proposal_id, 'entity_id', proposal.entity_id, 'dedup_key', proposal.dedup_key,
            'reason', reason, 'version', current, 'decided_at', now_ms
        );
        IF reason = 'NONE' THEN
            INSERT INTO verdict VALUES (proposal.entity_id, proposal.dedup_key, decision);
        END IF;
        decisions := decisions || decision;
    END LOOP;
    INSERT INTO outbox SELECT * FROM unnest(parts, log_offsets, decisions);
END $$;
