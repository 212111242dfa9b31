"""Composition roots: one per family of handlers, so that serving never loads what only refreshing needs."""
