"""Whether stored runs are whole, follow from themselves, and come out the same when they are trained again."""
