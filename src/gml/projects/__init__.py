"""Projects and exact reruns: running code that is described by a record, an MLproject file or a sweep."""
