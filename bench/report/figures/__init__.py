"""The report's pictures, one per file: a frame goes in, a matplotlib figure comes out."""
