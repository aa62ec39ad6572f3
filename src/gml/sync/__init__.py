"""Exchange with other repositories: push, pull, clone, bundles, inboxes."""
