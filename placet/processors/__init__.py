"""What to do: the machine, the decision ladder, what follows from a decision. Pure and deterministic."""
