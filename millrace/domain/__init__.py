"""Events and deciders: pure, without I/O."""
