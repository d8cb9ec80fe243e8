# %% [markdown]
# # Average gradients in three lines, and follow the light
#
# Four servers hold a gradient each. A ring all-reduce would send them around; OptINC sends them
# once, as light, into a switch that returns their mean.

# %%
import matplotlib.pyplot as plt
import torch

import optinc

gradients = torch.randn(4, 100_000, generator=torch.Generator().manual_seed(0)) * 1e-3

reducer = optinc.OptINCReducer.from_zoo(bits=8, servers=4)
mean = reducer(gradients)

print(mean.shape)

# %% [markdown]
# The mean is that of 8-bit codes, so it differs from the exact one by at most one step of its
# block's codes. The ONN itself makes no error: it was trained until all its inputs came out right.

# %%
exact = gradients.mean(0)
step = reducer.quantizer.scales(gradients) / reducer.quantizer.qmax
error_in_steps = (mean - exact) / step.repeat_interleave(reducer.quantizer.block_size)[: len(mean)]
print(f"largest error {error_in_steps.abs().max():.2f} steps")
print("ONN errors:", reducer.accounting.onn_error_rate)

figure, axes = plt.subplots(figsize=(7, 2.5))
axes.hist(error_in_steps.numpy(), bins=100)
axes.set(xlabel="mean through the switch minus exact mean, in steps of the codes", ylabel="values")
figure.tight_layout()

# %% [markdown]
# ## 1. Codes and symbols
#
# Servers share the scale of each block of 256 values, the largest absolute value that any of them
# holds there. Each rounds its value to a code of 8 bits and cuts the code into four PAM4 symbols,
# eq. (2): four amplitudes of light, the most significant first.

# %%
from optinc.signal import outputs, pam4, preprocessing

scenario = reducer.switch.scenario
first = gradients[:, :256]
scales = reducer.quantizer.scales(first)
codes = reducer.quantizer.encode(first, scales)
symbols = pam4.encode(codes, symbols=scenario.symbols)

for server in range(4):
    print(
        f"server {server}: gradient {first[server, 0]:+.5f} -> code {codes[server, 0]:3d}"
        f" -> symbols {symbols[server, 0].tolist()}"
    )

# %% [markdown]
# ## 2. Unit P
#
# Where several symbols share an input of the ONN, unit P merges them first; here each has its own.
# Then it adds the servers' light and divides by four. The averages are no longer PAM4: they have 13
# levels, and decimals that matter for the symbols to their left.

# %%
averages = preprocessing.preprocess(codes, scenario)
print(averages[0].tolist())

# %% [markdown]
# ## 3. The optical neural network
#
# It maps the averages to the symbols of the rounded mean code: carries and rounding, done by
# interferometers and ReLUs. Its outputs are analog; a receiver snaps them to the nearest amplitude.

# %%
onn = optinc.zoo.load(None, scenario=scenario, hidden="table1", layers="all")
assert onn.card.weights_sha256 == reducer.describe()["onn_sha256"]
print("widths of the layers:", onn.network.structure)
with torch.no_grad():
    amplitudes = onn.network(averages)
received = pam4.receive(amplitudes)
print("analog:  ", [round(value, 3) for value in amplitudes[0].tolist()])
print("received:", received[0].tolist(), "-> code", int(pam4.decode(received[:1])[0]))

# %%
VALUES = 12
time = torch.arange(VALUES * scenario.symbols + 1)
figure, rows = plt.subplots(6, 1, figsize=(8, 6), sharex=True, sharey=True)
lights = [*symbols, averages, amplitudes]
names = [*(f"server {n}" for n in range(4)), "behind unit P", "behind the ONN"]
for axes, light, name in zip(rows, lights, names, strict=True):
    values = light[:VALUES].flatten().float()
    axes.stairs(values.numpy(), time.numpy(), color="C0" if "server" in name else "C1")
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    axes.set_yticks(range(4))
    axes.grid(axis="y", alpha=0.3)
rows[-1].set_xlabel(f"PAM4 symbols of the first {VALUES} gradient values")
figure.tight_layout()

# %% [markdown]
# All possible inputs at once: the averages of four servers have 13 levels an input, 28,561 in all.
# A symbol is received wrong where its amplitude crosses a dashed threshold. None does.

# %%
from optinc.onn.dataset import samples_of_sums

every = preprocessing.sums_of_index(torch.arange(scenario.combinations), scenario)
every_average, every_symbol = samples_of_sums(every, scenario)
with torch.no_grad():
    every_amplitude = onn.network(every_average)

figure, axes = plt.subplots(figsize=(7, 2.8))
for wanted in range(4):
    chosen = every_amplitude[every_symbol == wanted]
    axes.hist(chosen.numpy(), bins=80, range=(-0.6, 3.6), label=f"symbol {wanted}")
for threshold in (0.5, 1.5, 2.5):
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
axes.set(xlabel="output of the ONN, in PAM4 amplitudes", ylabel="outputs", yscale="log")
axes.legend()
figure.tight_layout()
wrong = (outputs.receive(every_amplitude, scenario) != every_symbol).any(-1).sum()
print(f"{int(wrong)} of {scenario.combinations} inputs are received wrong")

# %% [markdown]
# ## 4. Back at the servers
#
# Unit T splits the light to all servers, which decode the code with the scale they share. This is
# the first block of what the three lines returned, bit for bit.

# %%
decoded = reducer.quantizer.decode(pam4.decode(received), scales)
assert torch.equal(decoded, mean[:256])
print(decoded[:4].tolist())
