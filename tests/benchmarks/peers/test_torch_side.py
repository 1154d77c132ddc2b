import pytest

from flax_resnet.models import count_parameters, create_model

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_resnet56"])
def test_the_peers_cifar_networks_have_our_parameters(name):
    from benchmarks.case import Case
    from benchmarks.peers.torch_side import create_network

    case = Case(phase="train", mode="eager", platform="cpu", model=name, num_classes=10)
    network = create_network(case)
    found = sum(values.numel() for values in network.parameters())
    assert found == count_parameters(create_model(name))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
