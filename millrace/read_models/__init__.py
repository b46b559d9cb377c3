"""Read models, and the projector that feeds them from the service's own store."""
