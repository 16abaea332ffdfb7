"""How the picture moved: tracker, analysis, second looks, the guard, and subjects that are followed."""
