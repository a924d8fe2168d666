"""Videos with masks drawn over them: sheets, animations, files."""
