"""The embedded default: everything the product needs around it, on this machine."""
