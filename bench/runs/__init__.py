"""What is stored: the run, its folder, its identity, and who is working on it."""
