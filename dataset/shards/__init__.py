"""Clips in tar files of some hundred MB each (shards), in webdataset's layout."""
