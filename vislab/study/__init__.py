"""Tables as data, the runs that they are made of, and working them off."""
