"""
Pretrain on a corpus of your own
================================

The bundled weights know crystals of the Materials Project. If yours are of another kind and you have many of them
without labels, pretrain on these, and finetune on the few that have labels.
"""

from pathlib import Path
from tempfile import mkdtemp

from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.plotting import plot_learning_curves

# %%
# Here the corpus are crystals that ship with pymatgen, two hundred of them. That is far too few to learn much from,
# and a real corpus has thousands; the way is the same. A folder of CIF files is read by
# `read_crystals("folder").data`.
corpus = [structure for structure in load_prototypes().data if len(structure) <= 12][:200]
len(corpus)

# %%
# Barlow Twins needs no labels: two disturbed copies of a crystal are to have the same vector. With `checkpoint=` a run
# that was interrupted goes on after its last complete epoch. The validation loss is that of crystals held out.
folder = Path(mkdtemp()) / "my-weights"
embedder = PretrainedCrystalEmbedder("barlow", weights=None, max_epochs=8, batch_size=32, random_state=0)
embedder.fit(corpus)
plot_learning_curves(embedder)

# %%
# The weights are a folder of safetensors and JSON, with a card to fill in, and no pickle. It may be shared.
embedder.save_pretrained(folder)
sorted(path.name for path in folder.iterdir())

# %%
# A folder goes wherever the name of bundled weights does. A grid over `pretrain` compares encoders too, since each
# method brings its own; here all three have CGCNN.
structures, y = load_prototypes("bulk_modulus", return_X_y=True)
known = set(embedder.elements_)
keep = [i for i, s in enumerate(structures) if len(s) <= 12 and known.issuperset(s.atomic_numbers)]
graphs = CrystalGraphTransformer("cgcnn").fit_transform([structures[i] for i in keep])
train, test, y_train, y_test = train_test_split(graphs, y[keep], train_size=50, random_state=0)
for name, pretrain in {"from scratch": None, "own corpus": folder, "bundled barlow": "barlow"}.items():
    model = CrystalSSLRegressor(pretrain=pretrain, encoder="cgcnn", max_epochs=40, random_state=0).fit(train, y_train)
    print(f"{name:>15}: {mean_absolute_error(y_test, model.predict(test)):.1f} GPa")

# %%
# One split of a few hundred crystals says little about such differences: repeat it with several seeds. If labels of
# any kind are known for the corpus, `"joint"` learns from them: `PretrainedCrystalEmbedder("joint",
# weights=None).fit(X, y)` with a DataFrame of what is known. To go on from the bundled weights instead of from
# nothing, set `continue_training=True`.
