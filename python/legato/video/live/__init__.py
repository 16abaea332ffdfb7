"""Live pictures: the stabilizer, and the line that takes them from a source to a sink."""
