"""Sets of problems with exact rules for what is right."""
