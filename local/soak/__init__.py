"""Long abuse of the deployed stack: everything fails at random, and no token may be lost, doubled or served dead."""
