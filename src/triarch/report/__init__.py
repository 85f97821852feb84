"""The page of a study: the one room that knows both laws and study folders."""
