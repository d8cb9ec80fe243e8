# %% [markdown]
# # From weights to phases to a noisy chip
#
# A trained ONN is a list of matrices. A chip has couplers and phase shifters. This page goes from
# one to the other, and asks what is left when couplers are not exact and detectors are noisy.

# %%
import matplotlib.pyplot as plt
import torch

from optinc.onn import zoo
from optinc.onn.chip import ChipNetwork, chip_accuracy
from optinc.onn.mesh_settings import map_onn, transfer_matrix
from optinc.photonics.chip_settings import ChipSettings
from optinc.photonics.decomposition import rebuild

small = zoo.load_named("b8_n4_half_even_smallest")
robust = zoo.load_named("b8_n4_half_even_robust")
for onn in (small, robust):
    print(
        onn.card.structure, f"{onn.card.mzi_count} interferometers, {onn.card.wrong_inputs} wrong"
    )

# %% [markdown]
# ## Phases
#
# A weight matrix is factored into orthogonal matrices and attenuations, and each orthogonal matrix
# of n modes into n(n-1)/2 interferometers with a phase difference theta and a phase phi.

# %%
programme = map_onn(small, shifters="push_pull")
layer = 5
mesh = programme.phases(f"layers.{layer}.right")
weights = transfer_matrix(programme, layer)
print(f"layer {layer + 1}: weights and bias {tuple(weights.shape)}")
print("interferometers of its right mesh:", mesh.theta_BE.shape[-1])

unitary = rebuild(mesh)[0]
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 2.8))
left.imshow(weights.real, cmap="RdBu", vmin=-1, vmax=1)
left.set(title="what the layer does", xlabel="input", ylabel="output")
middle.imshow(unitary.abs().square(), vmin=0, vmax=1)
middle.set(title="power through its right mesh", xlabel="input", ylabel="output")
thetas = torch.cat(
    [value.flatten() for name, value in programme.settings.items() if name.endswith("theta")]
)
right.hist(thetas.numpy(), bins=40)
right.set(title="all meshes", xlabel="theta, rad", ylabel="interferometers")
figure.tight_layout()

# %% [markdown]
# Multiplied out again, the meshes are the weights, to the precision of float64.

# %%
identity = torch.eye(unitary.shape[0], dtype=unitary.dtype)
print(f"U U^H differs from 1 by {(unitary @ unitary.mH - identity).abs().max():.1e}")

# %% [markdown]
# ## Couplers that are not 50:50
#
# Draw chips whose couplers' angles scatter around pi/4, send all 28,561 inputs through each, and
# count what is received right. The small ONN has the fewest interferometers. The robust one has
# twenty times as many; they restore signals between its stages, but scatter as well.

# %%
errors = [0.001, 0.002, 0.004, 0.008]  # rad
CHIPS = 4
figure, axes = plt.subplots(figsize=(7, 3.2))
for onn, name in ((small, "smallest"), (robust, "robust")):
    right = torch.stack(
        [
            chip_accuracy(ChipNetwork.draw(onn, ChipSettings(coupler_error=error), chips=CHIPS))
            for error in errors
        ]
    )
    line = axes.semilogx(errors, 100 * right.mean(1), marker="o", label=name)[0]
    axes.fill_between(
        errors, 100 * right.amin(1), 100 * right.amax(1), alpha=0.2, color=line.get_color()
    )
    print(name, [f"{100 * share:.2f} %" for share in right.mean(1).tolist()])
axes.set(xlabel="sigma of the couplers' angles, rad", ylabel="inputs received right, %")
axes.legend(title=f"mean and range of {CHIPS} chips")
figure.tight_layout()

# %% [markdown]
# ## Noise
#
# Noise of detectors and lasers is drawn anew for every symbol, as a share of each layer's full
# scale. What one layer of the small ONN adds, the next amplifies; the robust one restores. This is
# what its interferometers are for.

# %%
noises = [0.0003, 0.001, 0.003, 0.01]
figure, axes = plt.subplots(figsize=(7, 3.2))
for onn, name in ((small, "smallest"), (robust, "robust")):
    right = [
        float(chip_accuracy(ChipNetwork.draw(onn, ChipSettings(noise=noise)), seed=1))
        for noise in noises
    ]
    axes.semilogx(noises, [100 * share for share in right], marker="o", label=name)
    print(name, [f"{100 * share:.2f} %" for share in right])
axes.set(xlabel="noise, share of full scale", ylabel="inputs received right, %")
axes.legend()
figure.tight_layout()

# %% [markdown]
# Real parts have all of this at once, with values from papers: [parts of a chip](../chip_parts.md).
# Much of the static error can be calibrated away: [calibrated chips](../calibrated_chips.md).
