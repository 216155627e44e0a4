"""`jobs inspect` and `jobs why`: one job read, judged and told, as a document, on a terminal and as a web page."""
