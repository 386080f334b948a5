"""Many machines at work on one experiment: the ledger of tracts, and the workers of a node."""
