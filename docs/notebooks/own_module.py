# %% [markdown]
# # Your own LightningModule through the switch
#
# Nothing in a LightningModule changes: the strategy splits each batch over N servers, and a reducer
# averages their gradients. Here a small classifier of handwritten digits trains three times: by
# exact averaging, through the switch with 8 bits, and with 4.

# %%
import logging
import warnings

import matplotlib.pyplot as plt
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from optinc import BlockQuantizer, OptINCReducer, VirtualServersStrategy, make_scenario
from optinc.reducers.ring import RingReducer
from optinc.switches.single import IdealSwitch

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*does not have many workers")
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")

digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
train, test = order[:1500], order[1500:]

# %% [markdown]
# ## The module: yours


# %%
class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.losses = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)

    def accuracy(self):
        with torch.no_grad():
            return float((self.net(images[test]).argmax(1) == labels[test]).float().mean())


# %% [markdown]
# ## The switch: one argument of the Trainer


# %%
def fit(reducer):
    pl.seed_everything(0, verbose=False)
    module = Classifier()
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(images[train], labels[train])
    loader = DataLoader(data, batch_size=100, shuffle=True, drop_last=True, generator=generator)
    trainer = pl.Trainer(
        strategy=VirtualServersStrategy(reducer),
        accelerator="cpu",
        max_epochs=12,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    return module


ideal = IdealSwitch(make_scenario(bits=4, servers=4, onn_inputs="auto", rounding="half_even"))
ways = {
    "exact averaging": RingReducer(servers=4),
    "8 bits, through the ONN": OptINCReducer.from_zoo(bits=8, servers=4),
    "4 bits, ideal switch": OptINCReducer(quantizer=BlockQuantizer(bits=4), switch=ideal),
}
modules = {name: fit(reducer) for name, reducer in ways.items()}

# %%
print(f"{'':26}{'accuracy':>9}{'gradient error':>16}{'bytes sent':>13}")
for name, reducer in ways.items():
    found = reducer.accounting
    print(
        f"{name:26}{modules[name].accuracy():9.1%}{found.quantization_error:16.2%}"
        f"{found.bytes_sent:13,.0f}"
    )

figure, axes = plt.subplots(figsize=(7, 3.2))
for name, module in modules.items():
    window = torch.tensor(module.losses).unfold(0, 15, 1).mean(1)
    axes.plot(range(15, 15 + len(window)), window, label=name)
axes.set(xlabel="step", ylabel="training loss, mean of 15 steps", yscale="log")
axes.legend()
figure.tight_layout()

# %% [markdown]
# For servers that are processes, take `strategy="optinc_ddp"`; without Lightning, `optinc.attach`:
# [in your own project](../use_in_your_project.md).
