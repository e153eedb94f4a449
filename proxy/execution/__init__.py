"""One admitted request on its way to the server and back, up to the row that releases its answer."""
