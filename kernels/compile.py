#!/usr/bin/env python3
"""Compiles the kernels to PTX, or with --check compares the committed PTX with them and assembles it for all cards.

NVRTC and ptxas come as Python wheels and need no GPU. Their versions are fixed: the PTX is the same, byte for byte, and
of a version that older drivers accept. Users of the library need neither.
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ROOT / "target" / "cuda-tools"
WHEELS = ["nvidia-cuda-nvrtc-cu12==12.0.140", "nvidia-cuda-nvcc-cu12==12.9.86"]
KERNELS, TEST_KERNELS = ROOT / "kernels", ROOT / "cusim" / "tests" / "kernels"
# Products and sums are not contracted: a fused multiply-add stands where the source says so, as in the Rust code.
OPTIONS = ["--gpu-architecture=compute_75", "--fmad=false", "-lineinfo", f"--include-path={ROOT / 'kernels'}"]
CARDS = ["sm_75", "sm_80", "sm_90", "sm_100"]
REGISTERS = 65536


def tool(pattern):
    """The path of a file of the wheels, which are installed if they are not there."""
    if not TOOLS.exists():
        venv.create(TOOLS, with_pip=True)
        subprocess.run([TOOLS / "bin" / "pip", "install", "--quiet", "--no-deps", *WHEELS], check=True)
    return next(TOOLS.glob(f"lib/python*/site-packages/nvidia/{pattern}"))


def targets():
    """(source, PTX, options): the kernels once for each precision, those of the simulator's tests once."""
    for source in sorted(KERNELS.glob("*.cu")):
        yield source, KERNELS / "f32" / f"{source.stem}.ptx", []
        yield source, KERNELS / "f64" / f"{source.stem}.ptx", ["-DDOUBLE"]
    for source in sorted(TEST_KERNELS.glob("*.cu")):
        yield source, source.with_suffix(".ptx"), []


def ptx(nvrtc, source, options):
    """The PTX of one source file."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    name = source.name.encode()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None)
    options = [option.encode() for option in OPTIONS + options]
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    part = "ProgramLog" if failed else "PTX"
    getattr(nvrtc, f"nvrtcGet{part}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{part}")(program, text)
    text = text.value.decode()
    if failed:
        sys.exit(f"{source}:\n{text}")
    # Source files without the folder of this machine; and NVRTC's own header leaves constants that nothing reads.
    text = re.sub(r'(?m)^(\s*\.file\s+\d+ ").*/', r"\1", text)
    # NVRTC counts calls through all that a process compiles; here they are counted in each file.
    first = min(map(int, re.findall(r"callseq (\d+)", text)), default=0)
    text = re.sub(r"callseq (\d+)", lambda call: f"callseq {int(call[1]) - first}", text)
    return re.sub(r"(?m)^\.global .*nv6target.*\n", "", text)


def assemble(ptxas, file):
    """Complaints about what the assembler makes of it: spills, or blocks that no multiprocessor can hold."""
    threads = {}
    for name, head in re.findall(r"\.entry (\w+)\((.*?)\n\{", file.read_text(), re.S):
        bound = re.search(r"\.maxntid (\d+), (\d+), (\d+)", head)
        threads[name] = int(bound[1]) * int(bound[2]) * int(bound[3]) if bound else 1024
    for card in CARDS:
        command = [ptxas, "-v", f"-arch={card}", file, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            yield f"{file.name}, {card}: {done.stderr}"
        # Kernels, and functions that they call.
        functions = re.findall(r"Function properties for (\w+)\n.*?(\d+) bytes spill stores", done.stderr)
        for name, spilled in functions:
            if int(spilled) > 0:
                yield f"{file.name}, {card}: {name} spills {spilled} bytes"
        for name, registers in re.findall(r"entry function '(\w+)'.*?Used (\d+) registers", done.stderr, re.S):
            if int(registers) * threads[name] > REGISTERS:
                yield f"{file.name}, {card}: {name} needs {registers} registers x {threads[name]} threads"


def main():
    check = sys.argv[1:] == ["--check"]
    nvrtc, ptxas = ctypes.CDLL(tool("cuda_nvrtc/lib/libnvrtc.so.12")), tool("cuda_nvcc/bin/ptxas")
    complaints = []
    for source, file, options in targets():
        text = ptx(nvrtc, source, options)
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            complaints.append(f"{file.name} is not what {source.name} compiles to; run `just kernels`")
            continue
        if source.parent == KERNELS:
            complaints += assemble(ptxas, file)
    if complaints:
        sys.exit("\n".join(complaints))


main()
