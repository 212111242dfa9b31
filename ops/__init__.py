"""The operator's commands, run on the operator's machine with the operator's credentials. Nothing deploys them."""
