"""A definition file: its grammar, its checks, its problems told to the author, what changed between two versions."""
