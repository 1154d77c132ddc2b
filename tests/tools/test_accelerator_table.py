"""The table of compiled programs in docs/accelerators.md agrees with the committed results."""

from tools.accelerator_table import block, main


def program(kernels, **more):
    figures = dict(
        status="done",
        kernels=kernels,
        bytes=4e9,
        bytes_per_image=2e6,
        planned=1e9,
        collectives={},
        estimated_cycles=None,
        bound={"memory_s": 0.002, "products_s": 0.001},
    )
    return figures | more


def result(ours, linen=None, **more):
    settings = dict(target="h100", devices=2, model="m", phase="train", mode="jit", dtype="d")
    settings |= dict(batch_size=8, stage_sizes=None, scan_blocks=False, remat=False)
    entry = {
        "settings": settings | dict(norm_group=None) | more,
        "programs": {"ours": ours} | ({"linen": linen} if linen else {}),
    }
    environment = {"packages": {"jax": "1.0", "numpy": "2.0"}}
    return {"benchmark": "aot", "environment": environment, "cases": [entry]}


def test_the_page_is_up_to_date():
    assert main(["--check"]) == 0, "not up to date: python -m tools.accelerator_table"


def test_the_newest_program_counts_and_linens_is_in_brackets():
    sent = {"all-reduce": {"count": 3, "bytes": 2**20}}
    results = [
        result(program(5, collectives=sent), program(1700)),
        result(program(9)),  # older
        result(program(7), remat=True),
    ]
    lines = block(results).splitlines()
    assert lines[2:4] == [
        "| h100 x 2, m, train, d, 4 a device | 5 (1,700) | 4.00 (4.00) | 2.0 (2.0) | 1.00 (1.00) |"
        " 3, 1.0 MiB | bytes 2 ms, products 1 ms: <= 2,000 images/s |",
        "| h100 x 2, m, train, d, 4 a device, remat | 7 | 4.00 | 2.0 | 1.00 |  |"
        " bytes 2 ms, products 1 ms: <= 2,000 images/s |",
    ]
    assert lines[-1].endswith("jax 1.0.")


def test_a_program_that_did_not_compile_has_no_row():
    assert "Not compiled yet" in block([result({"status": "failed", "reason": "no memory"})])
