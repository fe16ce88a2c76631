"""``make demo``: real mail through the whole pipeline on this machine, three ways in, and a look at what became of it."""
