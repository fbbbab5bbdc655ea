"""Expressions of a definition: CEL, paths and literals, compiled to functions of a scope."""
