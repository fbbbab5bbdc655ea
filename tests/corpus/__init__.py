"""Recorded logs that every later release must verify and restore: what it decides otherwise is another ladder.

A file is never written again. A release with a new ladder, contract or header adds one:

    python -m tests.corpus.record
"""
