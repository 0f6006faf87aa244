"""The evaluation page and the click-and-listen page: their media, curves and HTML."""
