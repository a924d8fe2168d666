"""What runs were, read from their folders, and pages about them."""
