"""Programs at finite width: many draws, and their distance to the limit."""
