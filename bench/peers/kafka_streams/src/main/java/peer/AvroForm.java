package peer;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;

/** Reads and writes the records of one Avro schema. Of one thread: its buffers are used again. */
final class AvroForm {
    private final Schema schema;
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(256);
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    AvroForm(Schema schema) {
        this.schema = schema;
        reader = new GenericDatumReader<>(schema);
        writer = new GenericDatumWriter<>(schema);
    }

    /** Returns the form of a schema that lies beside this class. */
    static AvroForm named(String file) {
        try (InputStream text = AvroForm.class.getResourceAsStream(file)) {
            return new AvroForm(new Schema.Parser().parse(text));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Returns the place of a column. */
    int column(String name) {
        return schema.getField(name).pos();
    }

    /** Returns the record whose bytes begin at an offset. */
    GenericRecord read(byte[] value, int offset) {
        try {
            decoder = DecoderFactory.get().binaryDecoder(value, offset, value.length - offset, decoder);
            return reader.read(null, decoder);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** Returns the bytes of a record, whose columns come in the order of the schema. */
    byte[] written(Object... columns) {
        GenericRecord record = new GenericData.Record(schema);
        for (int column = 0; column < columns.length; column++) {
            record.put(column, columns[column]);
        }
        try {
            bytes.reset();
            encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
            writer.write(record, encoder);
            encoder.flush();
            return bytes.toByteArray();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
