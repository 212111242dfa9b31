"""AWS for a test or a demo: MiniStack on loopback, deployed to, patched where it falls short, called like AWS."""
