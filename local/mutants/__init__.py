"""`make mutants`: takes each guard of the protocol out of a copy in turn, to see that a test notices."""
