"""Builds one library per instruction set; which of them is loaded, the processor decides."""

import platform

from setuptools import Extension, setup

FLAGS = {
    "avx512": ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"],
    "avx2": ["-mavx2", "-mfma"],
    "portable": [],
}
X86 = platform.machine().lower() in ("x86_64", "amd64")

setup(
    ext_modules=[
        Extension(
            f"crystalssl_compiled._{name}",
            [f"crystalssl_compiled/_{name}.cpp"],
            depends=["crystalssl_compiled/kernels.h"],
            extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden", "-Wno-psabi", *flags],
            py_limited_api=True,  # Python's interface is not used at all: one file serves all versions
        )
        for name, flags in FLAGS.items()
        if X86 or not flags
    ]
)
