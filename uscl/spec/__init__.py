"""What the user asked for: sweep files and trial settings, checked and frozen. Imports pydantic and yaml only."""
