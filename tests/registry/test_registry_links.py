"""Addresses of remotes, and where their pull requests are made."""

from __future__ import annotations

import pytest

from gml.registry.links import pull_request_page

GITHUB = "https://github.com/acme/models/compare/gml/registry...gml/propose/churn-2?expand=1"

ASKED = "?merge_request%5Bsource_branch%5D=gml%2Fpropose%2Fchurn-2&merge_request%5Btarget_branch%5D=gml%2Fregistry"


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("git@github.com:acme/models.git", GITHUB),
        ("https://user:s3cret@github.com/acme/models", GITHUB),
        ("ssh://git@github.com:22/acme/models.git", GITHUB),
        (
            "https://gitlab.example.org:8443/a/b/models.git",
            "https://gitlab.example.org:8443/a/b/models/-/merge_requests/new" + ASKED,
        ),
        (
            "git@codeberg.org:acme/models.git",
            "https://codeberg.org/acme/models/compare/gml/registry...gml/propose/churn-2",
        ),
        ("/srv/git/github.git", None),
        ("../github/models", None),
        ("file:///srv/github.com/models.git", None),
        ("git@example.org:acme/models.git", None),
        ("https://github.com", None),
        ("https://github.com:x/acme/models", None),
        ("C:/github/models", None),
    ],
)
def test_pages_of_pull_requests(remote, page):
    assert pull_request_page(remote, "gml/propose/churn-2", "gml/registry") == page
