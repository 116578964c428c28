"""What becomes of a page that reclaim picked; one small file per policy."""
