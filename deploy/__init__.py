"""How mailwarren is set up and run on one machine: the bootstrap, the private stack, the demo."""
