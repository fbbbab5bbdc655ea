"""Decides a log again and compares every byte: `placet verify`."""
