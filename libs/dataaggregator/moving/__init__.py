"""A whole embedded installation in one sealed file, and out of it into the empty database of a full one."""
