"""What `tpnum demo` shows: a module each, or a family of them."""
