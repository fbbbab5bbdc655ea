"""The bytes of everything that Placet reads and writes, and the schemas that they follow."""
