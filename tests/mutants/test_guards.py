"""Guards that no other test would miss."""
