"""The control topic: which definitions are published, and what must hold before one is."""
