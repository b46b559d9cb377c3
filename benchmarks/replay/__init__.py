"""How fast state is rebuilt from events, beside what reading them costs at least, and beside a peer."""
