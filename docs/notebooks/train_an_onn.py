# %% [markdown]
# # Train an ONN and watch it become exact
#
# The network in the switch must return the right symbols for every combination of averages that
# its servers can send. Here: codes of 4 bits, two servers, 49 possible inputs. The training below
# is that of `python run.py task=train_onn`, written out.

# %%
import logging
import warnings

import matplotlib.pyplot as plt
import pytorch_lightning as pl
import torch

import optinc
from optinc.onn.dataset import samples_of_sums
from optinc.onn.design import ONNDesign
from optinc.onn.training.losses import MarginLoss
from optinc.onn.training.one_switch import ONNTraining
from optinc.signal.preprocessing import sums_of_index

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*does not have many workers")
warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")

scenario = optinc.make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="half_even")
design = ONNDesign.from_settings(scenario=scenario, hidden=[32, 64, 64, 32], layers="all")
print(scenario)
print(f"{scenario.combinations} inputs, widths {design.structure}")

# %% [markdown]
# ## What it has to learn
#
# Each server's code is two PAM4 symbols. The ONN sees their averages, 7 levels an input, and emits
# the two symbols of the rounded mean. Each picture is one output over all inputs: stairs, whose
# edges lie wherever a carry or a rounding does.

# %%
sums = sums_of_index(torch.arange(scenario.combinations), scenario)
averages, symbols = samples_of_sums(sums, scenario)

figure, panels = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
for output, axes in enumerate(panels):
    image = axes.imshow(
        symbols[:, output].view(7, 7), origin="lower", extent=(0, 3, 0, 3), vmin=0, vmax=3
    )
    axes.set(
        title=f"symbol {output + 1}", xlabel="average of symbol 2", ylabel="average of symbol 1"
    )
_ = figure.colorbar(image, ax=panels, ticks=range(4), label="PAM4 amplitude")

# %% [markdown]
# ## Training
#
# All layers have the form Sigma U, a diagonal times an orthogonal matrix: one mesh of
# interferometers and a column of attenuators instead of two meshes. The training projects the
# weights onto that form after every step, so that what is evaluated can be built. The loss forgives
# what the receivers forgive: 0.3 of an amplitude, where a threshold lies at 0.5.


# %%
class Watch(pl.Callback):
    """Keeps what the ONN emits for all inputs, epoch by epoch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, module):
        with torch.no_grad():
            self.epochs.append(module.network(averages))


pl.seed_everything(1, verbose=False)
training = ONNTraining(
    design=design,
    loss=MarginLoss(tolerance=0.3),
    optimizer="muon",
    learning_rate=5e-3,
    batch_size=49,
    max_epochs=40,
    max_steps=None,
    epoch_steps=20,
    projection_interval=1,
    min_margin=0.05,
    noise=0.0,
    epoch_inputs=None,
    hard_share=0.0,
    hard_margin=0.1,
    seed=1,
)
watch = Watch()
pl.Trainer(
    accelerator="cpu",
    max_epochs=training.max_epochs,
    callbacks=[watch],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(training)
print(f"{len(watch.epochs)} epochs, {training.evaluation.wrong_inputs} wrong inputs")
assert training.evaluation.wrong_inputs == 0

# %%
emitted = torch.stack(watch.epochs)  # [epochs, inputs, 2]
wrong = (emitted.round().clamp(0, 3) != symbols).any(-1).sum(-1)
distance = (emitted - symbols).abs().flatten(1)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.plot(range(1, len(wrong) + 1), wrong, marker=".")
left.set(xlabel="epoch", ylabel=f"wrong inputs of {scenario.combinations}", ylim=0)
right.plot(range(1, len(wrong) + 1), distance.amax(1), label="largest")
right.plot(range(1, len(wrong) + 1), distance.median(1).values, label="median")
right.axhline(0.5, color="black", linestyle="--", linewidth=1, label="a receiver's threshold")
right.set(xlabel="epoch", ylabel="error in PAM4 amplitudes", yscale="log")
right.legend()
figure.tight_layout()

# %% [markdown]
# ## The eye opens
#
# What the ONN emits, by the symbol it should emit: after the first epoch, half way, at the end.

# %%
shown = [0, len(emitted) // 2, len(emitted) - 1]
figure, panels = plt.subplots(1, 3, figsize=(8, 2.8), sharex=True, sharey=True)
jitter = torch.rand(symbols.shape, generator=torch.Generator().manual_seed(0)) * 0.5 - 0.25
for axes, epoch in zip(panels, shown, strict=True):
    axes.scatter(symbols + jitter, emitted[epoch], s=6)
    for threshold in (0.5, 1.5, 2.5):
        axes.axhline(threshold, color="black", linestyle="--", linewidth=1)
    axes.set(title=f"epoch {epoch + 1}", xlabel="wanted symbol", xticks=range(4))
panels[0].set_ylabel("output of the ONN")
figure.tight_layout()

# %% [markdown]
# The paper's scenario, 8 bits and four servers, has 28,561 inputs and trains in minutes:
# `python run.py task=train_onn optinc/approximation=all_layers`, see
# [train an ONN](../train_an_onn.md).
