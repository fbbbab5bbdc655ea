"""`placet top`: a live view of all gates."""
