"""Where the chains of a test run: in this process always, and on Ray in the slow tier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipelines.local_ray import chains_here


@pytest.fixture(
    params=[
        pytest.param("here", id="here"),
        pytest.param("ray", id="ray", marks=[pytest.mark.ray, pytest.mark.slow]),
    ]
)
def chains(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test's chains in this process, and once more on the session's Ray.

    The stages and what leads to them are the same; processes, back-pressure and lost workers need
    a Ray: indexing, serving and C-GRPO have tests on Ray in the default tier, all others in the
    slow one.
    """
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
        yield "ray"
    else:
        with chains_here():
            yield "here"
