"""The main job, played over the platform's public doors."""
