"""How much better does a model become with compute? HSTU at sizes of one dial, each on data seen once, whose truth is known."""
