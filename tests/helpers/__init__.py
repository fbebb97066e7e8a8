"""What several folders of tests share; found as ``helpers`` by the search path in setup.cfg."""
