"""How the picture moved: tracker, analysis, second looks, the guard, black bars, and subjects that are followed."""
