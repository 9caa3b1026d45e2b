"""Takes a recipe through everything on this machine, made small."""
