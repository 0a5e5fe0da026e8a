"""Tools and the one door to an effect (`tools.runner`)."""
