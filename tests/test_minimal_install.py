"""The balancer works where torch is installed and nothing else."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

# What an installation of torch alone does not have.
for name in ("numpy", "scipy", "sklearn", "pandas", "pydantic", "typer", "rich", "altair", "moocore"):
    sys.modules[name] = None

import torch
import equipoise

torch.manual_seed(0)
trained = 0
for card in equipoise.methods():
    method = equipoise.method(card.id)
    trunk = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh())
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(8, 2) for name in ("a", "b", "c")})
    balancer = equipoise.Balancer(method, list(heads))
    groups = [{"params": [*trunk.parameters(), *heads.parameters()]}, *balancer.param_groups()]
    optimizer = torch.optim.Adam(groups, lr=0.01)
    x, y = torch.randn(16, 4), torch.randn(16, 2)

    def losses(shared=False, rows=slice(None)):
        z = trunk(x[rows])
        z = balancer.share(z) if shared else dict.fromkeys(heads, z)
        return {name: (head(z[name]) - y[rows]).square().mean() for name, head in heads.items()}

    for step in range(4):
        optimizer.zero_grad()
        if method.needs == "bilevel":
            total = balancer.bilevel(losses, losses)
        elif method.needs == "batches":
            total = balancer(losses(), losses(rows=slice(0, 8)), losses(rows=slice(8, 16)))
        else:
            total = balancer(losses(shared=step % 2 == 0 and "features" in method.routes))
        total.backward()
        optimizer.step()
        balancer.after_step(losses)
    assert all(p.isfinite().all() for p in trunk.parameters()), card.id
    trained += 1
print(trained, "methods trained")
"""


def test_every_method_trains_with_torch_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "methods trained" in done.stdout
