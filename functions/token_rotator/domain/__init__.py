"""What the rotator knows: grants, leases, outcomes and policy. Standard library only; no I/O, no clock, no random."""
