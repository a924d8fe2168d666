"""The work of `vislab evaluate`: tables, files and figures of results."""
