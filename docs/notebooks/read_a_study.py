# %% [markdown]
# # Read a study's results
#
# Every experiment writes `NAME.csv` and `NAME.json`: the data, and with which command, commit and
# machine they were made. Those kept in the repository lie in `experiments/results`; your own go to
# `runs/results`.

# %%
import matplotlib.pyplot as plt

from experiments.common.record import RESULTS, read

study = read("significance", folder=RESULTS)
for key in ("title", "command", "date", "hardware"):
    print(f"{key}: {study.origin[key]}")

# %% [markdown]
# ## Is a difference chance?
#
# This study trained small models with the same seeds in several ways of averaging. Each row holds
# the mean difference of one way to another and its 95 % interval. An interval that contains zero is
# a difference that these seeds cannot tell from none, and `smallest seen` is what they could have
# told: a small interval around zero is good news, a wide one is no news.

# %%
rows = [row for row in study.rows if row["minus"] == "ring"]
names = [row["arm"] for row in rows]
middle = [float(row["difference"]) for row in rows]
low = [float(row["difference"]) - float(row["low"]) for row in rows]
high = [float(row["high"]) - float(row["difference"]) for row in rows]

figure, axes = plt.subplots(figsize=(7, 0.5 * len(rows) + 1))
axes.errorbar(middle, names, xerr=[low, high], fmt="o", capsize=3)
axes.axvline(0, color="black", linewidth=1)
axes.set(xlabel=f"loss minus that of exact averaging, {rows[0]['unit']}")
axes.set_xscale("symlog", linthresh=1e-3)
axes.invert_yaxis()
figure.tight_layout()

for row in rows:
    told = float(row["low"]) > 0 or float(row["high"]) < 0
    print(
        f"{row['arm']:24}{float(row['difference']):+.4f}  "
        f"{'worse' if told and float(row['difference']) > 0 else 'better' if told else 'not told'}"
        f"  (would have seen {float(row['smallest seen']):.4f})"
    )

# %% [markdown]
# ## The runs behind it
#
# Three seeds are few. A look at the single runs says whether one of them carries the mean.

# %%
runs = read("significance_runs", folder=RESULTS).rows
exact = {row["seed"]: float(row["value"]) for row in runs if row["arm"] == "ring"}
figure, axes = plt.subplots(figsize=(7, 3))
for name in names:
    own = {row["seed"]: float(row["value"]) for row in runs if row["arm"] == name}
    seeds = sorted(own, key=int)
    axes.plot(seeds, [own[seed] - exact[seed] for seed in seeds], marker="o", label=name)
axes.axhline(0, color="black", linewidth=1)
axes.set(xlabel="seed", ylabel="loss minus exact averaging")
axes.set_yscale("symlog", linthresh=1e-3)
axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()

# %% [markdown]
# ## A table with other questions: which chip works?
#
# The link budget follows light through every ONN in every technology. Its column `verdict` says in
# words what the numbers mean.

# %%
budget = read("link_budget", folder=RESULTS).rows
works = [row for row in budget if row["verdict"].startswith("possible")]
print(f"{len(works)} of {len(budget)} designs work")

figure, axes = plt.subplots(figsize=(7, 3.5))
for row in budget:
    if row["pJ/bit"] and row["right %"]:
        good = row["verdict"].startswith("possible")
        axes.scatter(
            float(row["pJ/bit"]), float(row["right %"]), color="C2" if good else "C3", s=18
        )
axes.scatter([], [], color="C2", label="possible")
axes.scatter([], [], color="C3", label="not possible")
axes.set(xlabel="energy, pJ/bit", ylabel="inputs received right, %", xscale="log")
axes.legend()
figure.tight_layout()

# %%
for row in works[:4]:
    print(f"{row['ONN']}, {row['chip']}:\n    {row['verdict']}")

# %% [markdown]
# `python -m experiments.report` puts all results on one page; what the studies found is written in
# [can this switch be built?](../can_it_be_built.md) and [direct receivers](../direct_receivers.md).
