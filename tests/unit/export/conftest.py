import pytest

from tests.helpers.trained import trained_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Gives the folder of a finished run of a method on the demo's ViT; made once."""
    root, made = tmp_path_factory.mktemp("results"), {}

    def run(method):
        if method not in made:
            made[method] = trained_run(root, method)
        return made[method]

    return run
