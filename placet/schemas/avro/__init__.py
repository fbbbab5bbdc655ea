"""Avro, compiled: schemas as shapes, readers and writers of bytes."""
