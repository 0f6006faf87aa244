"""What people look at: the media, curves and HTML of both pages."""
