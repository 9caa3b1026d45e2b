"""Small records that the larger ones in types.py are made of. They import nothing of the project."""
