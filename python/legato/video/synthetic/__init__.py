"""Clips of our own drawing, whose motion is known."""
