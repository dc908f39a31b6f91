"""The model that comes with the program: what a prompt looks like, and a first guess."""
