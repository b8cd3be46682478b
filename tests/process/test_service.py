# SPDX-License-Identifier: MIT
"""What `meson install` lays down for systemd, looked at by systemd's own tools."""
import os
import re
import shutil
import subprocess

import harness
import pytest

pytestmark = [pytest.mark.once, pytest.mark.skipif(not shutil.which("systemd-analyze"),
                                                   reason="no systemd-analyze here (systemd)")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The root of an installation into an empty folder."""
    root = tmp_path_factory.mktemp("root")
    ran = subprocess.run(["meson", "install", "-C", harness.BUILD, "--no-rebuild", "--destdir", root],
                         capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return root


def find(root, name):
    found = [path for path in root.rglob(name) if path.is_file() or path.is_symlink()]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


@pytest.fixture
def units(installed, tmp_path):
    """The units, with a program that is there in place of the installed one."""
    for name in ("seqfeedd.service", "seqfeedd.socket"):
        text = find(installed, name).read_text()
        (tmp_path / name).write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={harness.DAEMON}", text,
                                            flags=re.MULTILINE))
    return tmp_path


def analyze(*words):
    return subprocess.run(["systemd-analyze", *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}, check=False)


def test_everything_is_installed_where_it_belongs(installed):
    service = find(installed, "seqfeedd.service").read_text()
    program = re.search(r"^ExecStart=(\S+)", service, re.MULTILINE).group(1)
    assert (installed / program.lstrip("/")).is_file()
    for name in ("seqfeed", "seqfeed.h", "seqfeed.pc", "seqfeedd.socket", "seqfeed.1", "seqfeedd.8",
                 "seqfeedd.yaml.5", "libseqfeed.3"):
        find(installed, name)
    names = sorted(str(path.parent.name) for path in installed.rglob("seqfeed.conf"))
    assert names == ["sysusers.d", "tmpfiles.d"]


def test_the_service_may_have_the_threads_that_it_starts(units):
    """`threads` allows 1024; beside them: control, fetch, 63 that count an epoch, a device."""
    found = re.search(r"^TasksMax=(\d+)$", (units / "seqfeedd.service").read_text(), re.MULTILINE)
    assert int(found[1]) >= 1024 + 1 + 1 + 63 + 1


def test_systemd_accepts_the_units(units):
    ran = analyze("verify", "--man=no", units / "seqfeedd.service", units / "seqfeedd.socket")
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr


def test_the_service_is_exposed_to_no_more_than_0_6(units):
    ran = analyze("security", "--offline=yes", "--threshold=6", units / "seqfeedd.service")
    assert ran.returncode == 0, ran.stdout[-400:]


def test_the_drop_in_for_a_gpu_is_accepted_and_opens_little(installed, units):
    """As systemd merges it: later lines win. The units are looked at with the drop-in's lines behind theirs."""
    lines = find(installed, "gpu.conf").read_text().split("[Service]\n")[1]
    service = units / "seqfeedd.service"
    service.write_text(service.read_text().replace("\n[Install]", f"\n{lines}\n[Install]"))
    ran = analyze("verify", "--man=no", service, units / "seqfeedd.socket")
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    ran = analyze("security", "--offline=yes", "--threshold=8", service)
    assert ran.returncode == 0, ran.stdout[-400:]


def test_trainers_keep_their_own_users(units):
    """PrivateUsers= would show every trainer as nobody, and allow lists would mean nothing."""
    assert re.search(r"^PrivateUsers=no$", (units / "seqfeedd.service").read_text(), re.MULTILINE)


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here (systemd)")
def test_the_user_can_be_made(installed, tmp_path):
    paths = [path for path in installed.rglob("seqfeed.conf") if path.parent.name == "sysusers.d"]
    (tmp_path / "etc").mkdir()
    ran = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(paths[0])],
                         capture_output=True, text=True, check=False)
    if ran.returncode and os.geteuid():
        pytest.skip(f"systemd-sysusers wants to be root: {ran.stderr.strip()}")
    assert ran.returncode == 0, ran.stderr
    assert "seqfeed" in (tmp_path / "etc/passwd").read_text()
