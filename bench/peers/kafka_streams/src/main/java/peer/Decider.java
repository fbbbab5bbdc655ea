package peer;

import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Decides the proposals of its partition, one after the other, by rules that are written out for the bench's workload.
 *
 * <p>As the gate: exactly once, one decision for each proposal, a repeated one is known again, an expired or stale one
 * refused, by the log's time; state and memory are restored from changelogs.
 *
 * <p>Not as the gate: rules are code and not data that is published, there are no other intents, statuses, guards,
 * timers or signals; nothing is checked against a definition; a memory is never forgotten; a decision does not say what
 * a replay needs, names no first input and no conflict, and is a third as long; nothing is digested, so nothing can
 * be verified afterwards.
 */
final class Decider implements Processor<byte[], byte[], byte[], byte[]> {
    static final String STATES = "states", MEMORY = "memory";
    private static final byte[] SEEN = {1};

    private final Proposals proposals;
    private final AvroForm state = AvroForm.named("state.avsc"), decision = AvroForm.named("decision.avsc");
    private final int version = state.column("version");
    private final long validForMs;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> states, memory;

    Decider(Schema proposal, long validForMs) {
        proposals = new Proposals(proposal);
        this.validForMs = validForMs;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        states = context.getStateStore(STATES);
        memory = context.getStateStore(MEMORY);
    }

    @Override
    public void process(Record<byte[], byte[]> input) {
        Proposals.Proposal proposal = proposals.read(input.value());
        byte[] entity = input.key(), occasion = occasion(entity, proposal.dedupKey());
        byte[] before = states.get(entity);
        long current = before == null ? 0 : (Long) state.read(before, 0).get(version);
        String reason = reason(proposal, occasion, current, input.timestamp());
        boolean accepted = reason.equals("NONE");
        if (accepted) {
            current++;
            states.put(entity, after(proposal, current, input.timestamp()));
            memory.put(occasion, SEEN);
        }
        String outcome = accepted ? "ACCEPTED" : reason.equals("REPEATED") ? "DUPLICATE" : "REFUSED";
        context.forward(input.withValue(decision.written(
                proposal.id(), proposal.entity(), proposal.dedupKey(), outcome, reason, current, input.timestamp())));
    }

    private String reason(Proposals.Proposal proposal, byte[] occasion, long current, long nowMs) {
        if (memory.get(occasion) != null) {
            return "REPEATED";
        }
        long until = proposal.issuedAt() + validForMs;
        if (nowMs > (proposal.validUntil() == null ? until : Math.min(until, proposal.validUntil()))) {
            return "EXPIRED";
        }
        return proposal.baseVersion() == current ? "NONE" : "STALE";
    }

    private byte[] after(Proposals.Proposal proposal, long version, long nowMs) {
        GenericRecord payload = proposal.payload();
        return state.written(
                version, "escalated", nowMs, proposal.id(),
                payload.get("severity"), payload.get("reason"), payload.get("reading"));
    }

    private static byte[] occasion(byte[] entity, Utf8 dedupKey) {
        int length = dedupKey.getByteLength();
        byte[] both = new byte[entity.length + 1 + length];
        System.arraycopy(entity, 0, both, 0, entity.length);
        System.arraycopy(dedupKey.getBytes(), 0, both, entity.length + 1, length);
        return both;
    }
}
