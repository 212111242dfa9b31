"""Working in-memory versions of the ports. What they hold to is the same contract as the real adapters."""
