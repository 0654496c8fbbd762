"""How the weights of one network are found."""
