package peer;

import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;

/** Reads proposals as the gate's clients write them: Avro behind the ten bytes that name its schema. */
final class Proposals {
    private static final int HEAD_BYTES = 10;
    private final AvroForm form;
    private final int id, entity, dedupKey, issuedAt, baseVersion, validUntil, payload;

    Proposals(Schema schema) {
        form = new AvroForm(schema);
        id = form.column("proposal_id");
        entity = form.column("entity_id");
        dedupKey = form.column("dedup_key");
        issuedAt = form.column("issued_at");
        baseVersion = form.column("base_version");
        validUntil = form.column("valid_until");
        payload = form.column("payload");
    }

    /** A proposal of the bench's definition; validUntil is null where the definition alone bounds it. */
    record Proposal(
            Utf8 id, Utf8 entity, Utf8 dedupKey, long issuedAt, long baseVersion, Long validUntil, GenericRecord payload) {}

    Proposal read(byte[] value) {
        GenericRecord row = form.read(value, HEAD_BYTES);
        return new Proposal(
                (Utf8) row.get(id),
                (Utf8) row.get(entity),
                (Utf8) row.get(dedupKey),
                (Long) row.get(issuedAt),
                (Long) row.get(baseVersion),
                (Long) row.get(validUntil),
                (GenericRecord) row.get(payload));
    }
}
