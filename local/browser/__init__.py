"""A person's browser, for the demo and the tests: a real Chromium where there is one, else plain HTTP."""
