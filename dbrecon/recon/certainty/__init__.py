"""How sure a reconstruction is: what every data set with the same tables has in common with it."""
