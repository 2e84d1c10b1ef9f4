"""What was asked: the configuration, validated once, and the cells of a sweep."""
