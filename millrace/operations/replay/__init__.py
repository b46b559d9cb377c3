"""The command group `replay`: rebuild, roll back, republish, look into streams."""
