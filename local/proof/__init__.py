"""The proof: what happened in one run, whatever world recorded it, and what must not have happened."""
