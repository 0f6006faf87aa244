"""Any video to the sound of its places."""
