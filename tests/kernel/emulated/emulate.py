"""Runs a trace on another kernel in an emulated machine; writes what `tracereplay validate` reads.

    python tests/kernel/emulated/emulate.py T.parquet --kernel FOLDER --name 6.12-mine --memory 48MiB -o DIR

FOLDER holds an unpacked kernel package (`apt-get download linux-image-…; dpkg -x …deb FOLDER`; of 7.2
and later linux-binary-… and linux-modules-…).
Needs qemu-system-x86, busybox-static, gcc and cpio; neither root nor KVM. The machine has one CPU and
2 GB; a swap disk, cgroup, zswap and LRU as the options say. Counters do not depend on the emulator's
speed, times do. The trace needs `page` and `is_write`; PAGES, a page table with `random_lines`.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from tracereplay.host.workload import line_sizes

HERE = Path(__file__).parent
MODULES = ("virtio_blk", "virtio_pci", "zsmalloc", "z3fold", "lz4", "lz4hc", "zstd", "deflate")
OF_ZRAM = ("zram",)  # only where it is swapped to: other runs stay what they were
SAMPLE_COLUMNS = [
    "t_emulated_s", "memory.current", "anon", "inactive_anon", "active_anon",
    "zswap", "zswapped", "swap", "pool_total", "stored_pages",
]  # fmt: skip
VMSTAT = (
    "workingset_refault_anon", "workingset_activate_anon", "workingset_restore_anon",
    "nr_vmscan_write", "pswpin", "pswpout", "pgactivate", "pgdeactivate", "pgfault", "pgmajfault",
    "pgrefill", "pgreuse", "pgscan_anon", "pgsteal_anon", "pgrotated", "swap_ra", "swap_ra_hit",
    "swpin_zero", "swpout_zero", "zswpin", "zswpout", "zswpwb",
)  # fmt: skip
GAUGES = {"stored_pages", "same_filled_pages", "pool_total_size"}
KEPT_SAMPLES = 40


def module_files(kernel: Path, names: Iterable[str] = MODULES) -> list[Path]:
    """Return the modules a run needs, each after those it depends on."""
    found = {re.sub(r"\.ko.*", "", p.name).replace("-", "_"): p for p in kernel.rglob("*.ko*")}
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in found:
            return
        text = found[name].read_bytes()
        text = lzma.decompress(text) if found[name].suffix == ".xz" else text
        depends = re.search(rb"depends=([^\0]*)\0", text)
        for other in depends[1].decode().split(",") if depends else ():
            visit(other.replace("-", "_"))
        order.append(name)

    for name in names:
        visit(name)
    return [found[name] for name in order]


def build_archive(
    kernel: Path, touches: Path, lines: Path, conf: str, out: Path, modules: Iterable[str]
) -> None:
    """Write the initial file system of one run."""
    root = Path(tempfile.mkdtemp(prefix="emulate."))
    try:
        for folder in ("bin", "proc", "sys", "dev", "modules"):
            (root / folder).mkdir()
        shutil.copy("/bin/busybox", root / "bin/busybox")
        shutil.copy(HERE / "init", root / "init")
        (root / "init").chmod(0o755)
        (root / "run.conf").write_text(conf)
        compiler = ["gcc", "-O2", "-static", "-o", str(root / "recorder"), str(HERE / "recorder.c")]
        subprocess.run(compiler, check=True)
        subprocess.run(["strip", str(root / "recorder")], check=True)
        shutil.copy(touches, root / "touches")
        shutil.copy(lines, root / "pages")
        names = []
        for path in module_files(kernel, modules):
            text = path.read_bytes()
            name = path.name.removesuffix(".xz")
            (root / "modules" / name).write_bytes(
                lzma.decompress(text) if path.suffix == ".xz" else text
            )
            names.append(name)
        (root / "modules/order").write_text("\n".join(names) + "\n")
        files = "\n".join(str(p.relative_to(root)) for p in [root, *sorted(root.rglob("*"))])
        with out.open("wb") as archive:
            subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc"],
                input=files.encode(), stdout=archive, cwd=root, check=True,
            )  # fmt: skip
    finally:
        shutil.rmtree(root)


def boot(kernel: Path, archive: Path, disk: Path, log: Path, *, minutes: float, shift: int) -> str:
    """Run the machine to its end and return what it printed."""
    image = next(kernel.rglob("vmlinuz*"))  # in boot/, or beside its modules
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2048",
        *(["-icount", f"shift={shift}"] if shift >= 0 else []),
        "-kernel", str(image), "-initrd", str(archive), "-nographic", "-no-reboot", "-nodefaults",
        "-serial", f"file:{log}", "-append", "console=ttyS0 panic=-1 quiet transparent_hugepage=never",
        "-drive", f"file={disk},if=virtio,format=raw,cache=unsafe",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=minutes * 60)
    return log.read_text(errors="replace").replace("\r", "")


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines below each `== heading`."""
    out: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("== "):
            lines = out.setdefault(line[3:], [])
        elif line.strip():
            lines.append(line)
    return out


def numbers(lines: list[str]) -> dict[str, int]:
    """Return name → value of lines `name value`."""
    pairs = (line.split() for line in lines)
    return {
        pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()
    }


def record_of(name: str, text: str, reclaim: str, cgroup: str, limit: int) -> dict[str, object]:
    """Turn what the machine printed into the JSON of a run."""
    part = sections(text)
    if "end" not in part:
        raise SystemExit(
            f"{name}: the machine did not come to its end; the last lines were:\n{text[-2000:]}"
        )
    failed = [heading for heading in part if heading.startswith("failed")]
    if failed:
        raise SystemExit(f"{name}: {'; '.join(failed)}")

    def change(what: str) -> dict[str, int]:
        before, after = numbers(part[f"{what} before"]), numbers(part[f"{what} after"])
        return {key: value - before.get(key, 0) for key, value in after.items()}

    settings = dict(line.split(" ", 1) for line in part["settings"])
    kernel = settings.pop("kernel")
    mem_total = int(settings.pop("mem_total_kib"))
    settings["lru_gen"] = settings.pop("lru_gen.enabled", "absent")
    settings["min_ttl_ms"] = settings.pop("lru_gen.min_ttl_ms", "0")
    replay = numbers(part["kreplay"])
    finished = bool(replay.pop("finished"))
    vmstat = change("vmstat")
    rows = np.array([line.split() for line in part["samples"]], np.int64).reshape(-1, 10)
    every = -(-len(rows) // KEPT_SAMPLES) or 1
    memcg, end = change("memcg"), numbers(part["memcg after"])
    debug = change("zswap_debug")
    events = change("memcg_events") or change("oom_control")
    return {
        "name": name, "kernel": kernel, "cgroup": cgroup, "reclaim": reclaim, "emulated": True,
        "mem_total_kib": mem_total, "trace": f"traces/{name}.trace.parquet",
        "pages": f"traces/{name}.pages.parquet", "memory_limit_bytes": limit,
        "settings": {"cgroup": cgroup} | settings, "finished": finished,
        "exit_status": numbers(part["status"])["exit"],
        "vmstat": {key: vmstat[key] for key in VMSTAT if key in vmstat},
        "zswap_debug": {k: v for k, v in debug.items() if k not in GAUGES},
        "zswap_debug_end": {k: v for k, v in numbers(part["zswap_debug after"]).items() if k in GAUGES},
        "memcg": {k: v for k, v in memcg.items() if k.startswith(("workingset", "pg", "zswp", "swp"))},
        "memcg_end": {
            k: v for k, v in end.items()
            if not k.startswith(("workingset", "pg", "zswp", "swp", "total_", "numa", "thp"))
        },
        "memcg_events": events, "memcg_misc_end": numbers(part["memcg_misc after"]),
        "kreplay": " ".join(f"{k}={v}" for k, v in replay.items()) if finished else None,
        "elapsed_us": [int(word) for word in " ".join(part.get("elapsed_us", [])).split()],
        "stat_read_us": (rows[:, 0] // 1000).tolist(),
        "samples": {
            "columns": SAMPLE_COLUMNS, "unit": "pages of 4096 (stored_pages, t: as named)",
            "rows": [[round(row[0] / 1e9, 2), *row[1:]] for row in rows[::every].tolist()],
        },
    }  # fmt: skip


def parse_size(text: str) -> int:
    """Return bytes: "48MiB", "192M", "4096"."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(iB|B)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"not a size: {text}")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("trace", type=Path)
    parser.add_argument("--pages", type=Path, help="default: beside the trace, T.pages.parquet")
    parser.add_argument("--touches", type=int, help="only the first so many rows")
    parser.add_argument("--kernel", type=Path, required=True, help="unpacked kernel package")
    parser.add_argument("--name", required=True)
    parser.add_argument("--memory", "--limit", dest="limit", type=parse_size, required=True,
                        help="limit of the cgroup")  # fmt: skip
    parser.add_argument("--cgroup", choices=["v1", "v2"], default="v2")
    parser.add_argument("--reclaim", choices=["two-list", "mglru"], default="two-list")
    parser.add_argument("--zswap", nargs="*", default=[], metavar="PARAMETER=VALUE",
                        help="of /sys/module/zswap/parameters; enabled=Y unless said otherwise")  # fmt: skip
    parser.add_argument("--zram", metavar="CODEC", help="swap to a zram device, without zswap")
    parser.add_argument(
        "--memcg", nargs="*", default=[], metavar="FILE=VALUE", help="of the cgroup, v2"
    )
    parser.add_argument("--page-cluster", type=int, default=0)
    parser.add_argument("--swappiness", type=int, default=60)
    parser.add_argument("--swap-size", type=parse_size, default=1536 << 20)
    parser.add_argument("--wait-ms", type=int, default=100, help="between two reads of memory.stat")
    parser.add_argument("--minutes", type=float, default=30, help="give up after")
    parser.add_argument(
        "--shift",
        type=int,
        default=1,
        help="2**shift ns an instruction takes; -1: as fast as it goes",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder")
    args = parser.parse_args()

    trace = pl.read_parquet(args.trace, n_rows=args.touches).select("page", "is_write")
    stem = args.trace.name.removesuffix(".parquet").removesuffix(".trace")
    beside = args.trace.with_name(f"{stem}.pages.parquet")
    pages = pl.read_parquet(args.pages or beside).sort("page")
    if "lzo_bytes" not in pages.columns:
        sizes = line_sizes()
        at = pages["random_lines"].to_numpy()
        pages = pages.with_columns(
            **{name: pl.Series(values[at]) for name, values in sizes.items()}
        )
    if pages["page"].to_list() != list(range(pages.height)):
        raise SystemExit("the page table must have the pages 0, 1, 2, … each once")
    touches = trace["page"].cast(pl.UInt32).to_numpy() | (
        trace["is_write"].cast(pl.UInt32).to_numpy() << np.uint32(31)
    )
    lines = pages["random_lines"].cast(pl.UInt8).to_numpy().copy()
    if "zero_filled" in pages.columns:
        lines[(lines == 0) & ~pages["zero_filled"].to_numpy()] = 255
    else:
        lines[lines == 0] = 255
    zswap = {"enabled": "Y", "compressor": "lzo", "zpool": "zsmalloc", "max_pool_percent": "20"}
    if args.zram:
        zswap = {"enabled": "N"}
    zswap |= dict(pair.split("=", 1) for pair in args.zswap)
    enabled = zswap.pop("enabled")  # last, so that a pool of another kind is never made
    words = [f"{k}={v}" for k, v in zswap.items()] + [f"enabled={enabled}"]
    conf = (
        f'ZSWAP="{" ".join(words)}"\nMEMCG="{" ".join(args.memcg)}"\n'
        f"LRU_GEN={'y' if args.reclaim == 'mglru' else 'n'}\nCGROUP={args.cgroup}\n"
        f"LIMIT={args.limit}\nPAGE_CLUSTER={args.page_cluster}\nSWAPPINESS={args.swappiness}\n"
        f"WAIT_MS={args.wait_ms}\nZRAM={args.zram or ''}\nSWAP_BYTES={args.swap_size}\n"
    )
    with tempfile.TemporaryDirectory(prefix="emulate.") as folder:
        work = Path(folder)
        (work / "touches").write_bytes(touches.astype("<u4").tobytes())
        (work / "pages").write_bytes(lines.tobytes())
        build_archive(
            args.kernel, work / "touches", work / "pages", conf, work / "archive",
            (*MODULES, *(OF_ZRAM if args.zram else ())),
        )  # fmt: skip
        with (work / "disk").open("wb") as disk:
            disk.truncate(args.swap_size)
        text = boot(
            args.kernel,
            work / "archive",
            work / "disk",
            work / "log",
            minutes=args.minutes,
            shift=args.shift,
        )
    record = record_of(args.name, text, args.reclaim, args.cgroup, args.limit)
    record["records"] = trace.height
    folder = args.out / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    trace.write_parquet(folder / f"{args.name}.trace.parquet")
    pages.write_parquet(folder / f"{args.name}.pages.parquet")
    (args.out / f"{args.name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(f"wrote {args.out / args.name}.json", file=sys.stderr)


if __name__ == "__main__":
    main()
