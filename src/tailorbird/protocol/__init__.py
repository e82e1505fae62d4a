"""What two processes say to each other, as JSON-ready dataclasses; standard library only."""
