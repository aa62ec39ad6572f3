"""Fit a sine with a small network; go on with the last run where `--resume` is given."""

import argparse
from pathlib import Path

import torch

import gml

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()

torch.manual_seed(0)
x = torch.linspace(-3, 3, 256).unsqueeze(1)
y = torch.sin(x)
model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

gml.set_experiment("sine")
first_epoch = 0
run_id = None
if args.resume:
    run_id = gml.search_runs(experiment_names=["sine"], output_format="list")[0].run_id
    state = torch.load(gml.download_artifacts(run_id, "checkpoint.pt"))
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    first_epoch = state["epoch"] + 1

with gml.start_run(run_id=run_id, run_name=None if run_id else "sine"):
    gml.log_params({"lr": args.lr, "hidden": 32})
    gml.log_input({"x": x.numpy(), "y": y.numpy()}, context="train", name="sine")
    for epoch in range(first_epoch, args.epochs):
        order = torch.randperm(len(x)).split(32)
        for number, batch in enumerate(order):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            gml.log_metric("loss", loss.item(), step=epoch * len(order) + number)
        state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, "checkpoint.pt")
        gml.log_artifact("checkpoint.pt")
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    Path("checkpoint.pt").unlink(missing_ok=True)
