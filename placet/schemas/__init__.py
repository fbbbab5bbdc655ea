"""What data is: messages, states, decisions, definitions, their Avro contracts and codec. No I/O, no decisions."""
