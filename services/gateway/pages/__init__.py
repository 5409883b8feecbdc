"""Pages: the API to read and try in a browser, without internet: a page, its script, its style."""
