"""From folders of clips to index files and mixture lists."""
